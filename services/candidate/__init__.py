"""The candidate service: shortlists and similarity, by vector search over item embeddings."""
