"""What known families of embedders expect before a text, where their files do not say it.

E5 and BGE tell queries from passages by words before them; sentence-transformers' files of most of
their models keep silent about it. From the authors' model cards:
https://huggingface.co/intfloat/multilingual-e5-small, https://huggingface.co/BAAI/bge-small-en-v1.5
"""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from offline.embeddings.config import Pooling


@dataclass(frozen=True)
class Family:
    """How the models of a family are used.

    Attributes:
        query: Goes before what is searched for.
        passage: Goes before what is searched, such as an item text.
        pooling: How token states become one vector.
    """

    query: str
    passage: str
    pooling: Pooling


_SIZES: Final = "(small|base|large)"
# `e5-…-instruct` is not among them: its queries name a task, which only its user knows.
_FAMILIES: Final = {
    rf"(multilingual-)?e5-{_SIZES}(-v2)?": Family("query: ", "passage: ", "mean"),
    rf"bge-{_SIZES}-en(-v1\.5)?": Family(
        "Represent this sentence for searching relevant passages: ", "", "cls"
    ),
    rf"bge-{_SIZES}-zh(-v1\.5)?": Family("为这个句子生成表示以用于检索相关文章：", "", "cls"),
}


def family_of(model: str) -> Family | None:
    """The family of a model, by the last part of its hub name or path."""
    name = PurePath(model).name.lower()
    return next((f for pattern, f in _FAMILIES.items() if re.fullmatch(pattern, name)), None)
