"""Item texts to vectors: any sentence-transformers or Hugging Face model, and its ONNX export.

    embedder = load_embedder(EmbedderConfig())              # all-MiniLM-L6-v2
    vectors = embed_texts(embedder, texts)                  # float32 [texts, dimension], unit norm
    export_text_encoder(embedder, directory)                # what serving runs, without torch

`embed` does the first two steps at once.
"""

from offline.embeddings.config import EmbedderConfig, Pooling
from offline.embeddings.embed import embed, embed_texts
from offline.embeddings.export import TextEncoderExport, export_text_encoder
from offline.embeddings.int8 import MIN_RECALL, quantize_text_encoder
from offline.embeddings.model import TextEmbedder, load_embedder

__all__ = [
    "EmbedderConfig",
    "Pooling",
    "TextEmbedder",
    "load_embedder",
    "embed",
    "embed_texts",
    "export_text_encoder",
    "TextEncoderExport",
    "quantize_text_encoder",
    "MIN_RECALL",
]
