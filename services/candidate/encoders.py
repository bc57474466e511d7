"""The two encoders in ONNX Runtime: a history to a query, and a text to a vector.

A session may be shared: `run` releases the GIL and keeps no state. Threads that spin would starve
their neighbors on a small machine, so they don't.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.candidate.index import Vector


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
        """The text's vector, float32 [dimension], of unit norm."""


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
    """

    def __init__(self, graph: Path, tokenizer: Path, *, prefix: str, threads: int) -> None:
        self._session = session(graph, threads)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._prefix = prefix

    def encode(self, text: str) -> Vector:
        """See `TextEncoder.encode`; what is longer than the model reads is cut off."""
        encoding = self._tokenizer.encode(self._prefix + text)
        inputs = {
            "input_ids": np.array([encoding.ids], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask], dtype=np.int64),
        }
        vector: Vector = self._session.run(["vectors"], inputs)[0][0]
        return vector


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
