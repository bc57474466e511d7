"""Training of sequence models: one loop for the query encoder and for the generator."""
