"""What histories cost: reading them from Redis, deleting users from SQLite."""
