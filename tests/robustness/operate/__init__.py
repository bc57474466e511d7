"""A soak of all three processes: mixed calls while versions, items and connections come and go."""
