"""What breaks things: kills at random moments, and minutes of everything at once."""
