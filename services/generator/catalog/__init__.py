"""The items that the generator knows, kept current from the candidate service."""
