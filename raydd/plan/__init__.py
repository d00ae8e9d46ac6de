"""What a run would take: plan=true."""
