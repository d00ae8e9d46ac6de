"""How much do images teach? Networks from scratch, rivals, copies, attacks."""
