"""What the search can do beyond one list: what it costs, and what it proves."""
