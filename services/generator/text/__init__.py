"""Writing text: rows of several calls, one token at a time, and words as they come."""
