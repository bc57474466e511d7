"""What the commands that write docs/results have in common."""
