"""What histories cost: reading from Redis, deleting from SQLite, knowing what an answer showed."""
