"""What a build does to make its generator."""
