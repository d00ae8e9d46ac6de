"""What a run, or a judgement, leaves for people."""
