"""Vector indexes: exact, HNSW, IVF-PQ, Milvus, each with filters inside and live items beside."""
