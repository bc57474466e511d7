"""The query encoder: a history of item vectors to a query that scores every item.

trained = train_query_encoder(dataset, content_vectors, QueryEncoderConfig())
export_query_encoder(trained, directory)   # query_encoder.onnx, behavior_vectors.npy, …
"""

from offline.query_encoder.checkpoint import CheckpointError
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.export import QueryEncoderExport, export_query_encoder
from offline.query_encoder.train import TrainedQueryEncoder, train_query_encoder

__all__ = [
    "QueryEncoderConfig",
    "TrainedQueryEncoder",
    "train_query_encoder",
    "CheckpointError",
    "export_query_encoder",
    "QueryEncoderExport",
]
