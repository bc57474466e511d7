"""The query encoder: a history of item vectors to a query that scores every item.

trained = train_query_encoder(dataset, content_vectors, QueryEncoderConfig())
export_query_encoder(trained, directory)   # query_encoder.onnx, behavior_vectors.npy, …
"""
