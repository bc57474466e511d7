"""The two encoders in ONNX Runtime: a history to a query, and a text to a vector.

A session may be shared: `run` releases the GIL and keeps no state. Threads that spin would starve
their neighbors on a small machine, so they don't.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from core.bundle import Bundle
from services.candidate.index.flat import Vector

_TEXTS_AT_ONCE: Final = 8
"""Every text costs what the longest beside it does, and a core is busy with as few as these."""


class QueryEncoder(Protocol):
    """Turns a history into a query for the behavior space."""

    def encode(self, history: Vector) -> Vector:
        """The query after a history of at least one item.

        Args:
            history: float32 [items, dimension], the behavior vectors of its items, oldest first.

        Returns:
            float32 [dimension]; its inner product with an item's behavior vector is the item's
            log-probability to come next, up to a constant of the history.
        """


class TextEncoder(Protocol):
    """Turns a text into a vector of the content space."""

    def encode(self, text: str) -> Vector:
        """The vector of a text that items are searched for by, float32 [dimension], of unit
        norm."""

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """The vectors of item texts, float32 [texts, dimension], of unit norm, in order."""


class OnnxQueryEncoder:
    """`query_encoder.onnx`.

    Inputs: `history` float32 [users, items, dimension], padded at the end, and `lengths` int64
    [users]. Output: `query` float32 [users, dimension].
    """

    def __init__(self, graph: Path, *, threads: int) -> None:
        self._session = session(graph, threads)

    def encode(self, history: Vector) -> Vector:
        """See `QueryEncoder.encode`."""
        query: Vector = self._run(history[None], np.array([len(history)]))[0]
        return query

    def encode_batch(self, histories: Sequence[Vector]) -> Vector:
        """The queries after several histories, float32 [histories, dimension]."""
        lengths = np.array([len(history) for history in histories])
        padded = np.zeros((len(histories), lengths.max(), histories[0].shape[1]), np.float32)
        for row, history in zip(padded, histories, strict=True):
            row[: len(history)] = history
        return self._run(padded, lengths)

    def _run(self, history: Vector, lengths: NDArray[np.int64]) -> Vector:
        query: Vector = self._session.run(["query"], {"history": history, "lengths": lengths})[0]
        return query


class OnnxTextEncoder:
    """`text_encoder.onnx` behind its tokenizer.

    Inputs: `input_ids` and `attention_mask`, int64 [texts, tokens]. Output: `vectors` float32
    [texts, dimension], of unit norm.

    Args:
        graph: its file.
        tokenizer: the tokenizer's.
        prefix: goes before an item's text.
        query_prefix: goes before what is searched for; the same where it is None.
        threads: see `session`.
    """

    def __init__(
        self,
        graph: Path,
        tokenizer: Path,
        *,
        prefix: str,
        query_prefix: str | None = None,
        threads: int,
    ) -> None:
        self._session = session(graph, threads)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._prefix = prefix
        self._query_prefix = prefix if query_prefix is None else query_prefix

    def encode(self, text: str) -> Vector:
        """See `TextEncoder.encode`; what is longer than the model reads is cut off."""
        vector: Vector = self._encoded([self._query_prefix + text])[0]
        return vector

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """See `TextEncoder.encode_batch`."""
        return self._encoded([self._prefix + text for text in texts])

    def _encoded(self, texts: Sequence[str]) -> Vector:
        """Texts of similar lengths are read together, so that little is computed for padding."""
        read = self._tokenizer.encode_batch(texts)
        tokens = [np.array(e.ids)[np.array(e.attention_mask, np.bool_)] for e in read]
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        parts = [
            self._run([tokens[i] for i in order[start : start + _TEXTS_AT_ONCE]])
            for start in range(0, len(order), _TEXTS_AT_ONCE)
        ]
        vectors: Vector = np.concatenate(parts)[np.argsort(order)]
        return vectors

    def _run(self, texts: Sequence[NDArray[np.int64]]) -> Vector:
        lengths = np.array([len(text) for text in texts])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate(texts)
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        vectors: Vector = self._session.run(["vectors"], inputs)[0]
        return vectors


_IN_USE: Final = WeakValueDictionary[Hashable, OnnxTextEncoder]()
"""Text encoders by all that they are made of, for as long as an engine has them."""


def shared_text_encoder(bundle: Bundle, *, threads: int) -> OnnxTextEncoder:
    """The text encoder of a bundle. Versions with the same files have one: it is most of what a
    version takes in memory, and most of the time that loading takes.

    Args:
        bundle: a verified bundle.
        threads: see `session`.
    """
    section = bundle.manifest.candidate
    prefix, query_prefix = section.text_prefix, section.query_prefix
    graph, tokenizer = map(bundle.file, ("text_encoder.onnx", "text_tokenizer.json"))
    digests = [bundle.manifest.files[file.name].sha256 for file in (graph, tokenizer)]
    key = (*digests, prefix, query_prefix, threads)
    encoder = _IN_USE.get(key)
    if encoder is None:
        encoder = OnnxTextEncoder(
            graph, tokenizer, prefix=prefix, query_prefix=query_prefix, threads=threads
        )
        _IN_USE[key] = encoder
    return encoder


def session(graph: Path, threads: int) -> ort.InferenceSession:
    """Loads a graph for the CPU.

    Args:
        graph: an ONNX file.
        threads: how many work on one call; 1 under a pool of threads that call.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
