"""What the generator is worth beside retrieval: arms that share their encoders, over seeds."""
