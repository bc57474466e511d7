"""Embedding many texts."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from offline.embeddings.config import EmbedderConfig
from offline.embeddings.model import TextEmbedder, load_embedder

FloatArray = NDArray[np.float32]


def embed(
    texts: Sequence[str],
    config: EmbedderConfig | None = None,
    progress: Progress | None = None,
) -> FloatArray:
    """Embeds texts with the model that the configuration names.

    Returns:
        float32 [texts, dimension], every row of unit norm.
    """
    return embed_texts(load_embedder(config or EmbedderConfig()), texts, progress)


def embed_texts(
    embedder: TextEmbedder, texts: Sequence[str], progress: Progress | None = None
) -> FloatArray:
    """Embeds texts with a loaded model.

    Texts of similar length share a batch, so that little is computed for padding.

    Returns:
        float32 [texts, dimension], every row of unit norm, in the order of `texts`.

    Raises:
        ValueError: there is no text, or one without any token.
    """
    if not texts:
        raise ValueError("there are no texts to embed")
    bar = progress or Progress(disable=True)
    task = bar.add_task("Embedding item texts", total=len(texts))
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    size = embedder.config.batch_size
    parts = []
    for start in range(0, len(order), size):
        batch = [texts[i] for i in order[start : start + size]]
        parts.append(_embed_batch(embedder, batch))
        bar.advance(task, len(batch))
    vectors = np.concatenate(parts)
    return vectors[np.argsort(order)]


def _embed_batch(embedder: TextEmbedder, texts: Sequence[str]) -> FloatArray:
    ids, mask = embedder.tokenize(texts)
    if empty := (mask.sum(1) == 0).nonzero().flatten().tolist():
        raise ValueError(f"a text has no token to embed: {texts[empty[0]]!r}")
    with torch.inference_mode():
        vectors = embedder.encoder(ids.to(embedder.device), mask.to(embedder.device))
    return np.asarray(vectors.cpu().numpy(), dtype=np.float32)
