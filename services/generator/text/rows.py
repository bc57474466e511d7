"""The rows of a batch of texts: what the decoder reads of each, and how rows come and go.

A row's own keys and values stand at the right end of `past`, so that all rows are at the same
distance from what they write next; what is left of a row's first is padding, which the graph masks.
While no row comes or goes, what a step returned is what the next one is given, and nothing is
copied.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.generator.decoding.graphs import Graphs, Value

Array = NDArray[Any]
Encoded = Mapping[str, Array]
"""What `encode.onnx` made of one prompt, by the names of the graph's inputs, unpadded."""


class Rows:
    """The rows of a batch.

    Args:
        graphs: of a model that writes text.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        if graphs.text_inputs is None:
            raise ValueError("the model writes no text")
        self.read = graphs.text_inputs
        """What a step is given."""
        self._encoded: list[Encoded] = []
        self._written: list[int] = []
        self._fixed: dict[str, Array] = {}
        """Of all rows, padded to the longest prompt."""
        self._past: dict[str, Value] = self._grown({}, [])

    def __len__(self) -> int:
        return len(self._encoded)

    def change(self, keep: Sequence[int], join: Sequence[Encoded]) -> None:
        """Drops rows and takes others in.

        Args:
            keep: the places of those that stay, in their new order.
            join: the prompts of those that come, which stand behind them.
        """
        past = {name: np.asarray(_array(value)) for name, value in self._past.items()}
        self._past = self._grown(past, keep, len(join))
        self._written = [self._written[i] for i in keep] + [0] * len(join)
        self._encoded = [self._encoded[i] for i in keep] + list(join)
        self._fixed = {
            name: _stacked([row[name] for row in self._encoded])
            for name in self.read.fixed
            if self._encoded
        }

    def step(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Reads the last token of each row; returns the logits [rows, vocabulary] of the next."""
        feeds = {
            **self._fixed,
            **self._past,
            "token": np.array(tokens, np.int64),
            "written": np.array(self._written, np.int64),
        }
        logits, self._past = self._graphs.text(feeds)
        self._written = [count + 1 for count in self._written]
        return logits

    def _grown(
        self, past: Mapping[str, Array], keep: Sequence[int], joined: int = 0
    ) -> dict[str, Value]:
        """`past` of the rows that stay, moved to the right end, and of as many empty ones."""
        counts = [self._written[i] for i in keep]
        longest = max(counts, default=0)
        grown: dict[str, Value] = {}
        for name, shape in self.read.past.items():
            moved = np.zeros((len(keep) + joined, shape[0], longest, shape[1]), np.float32)
            for place, (i, count) in enumerate(zip(keep, counts, strict=True)):
                moved[place, :, longest - count :] = past[name][i, :, past[name].shape[2] - count :]
            grown[name] = moved
        return grown


def _array(value: Value) -> Array:
    array: Array = value if isinstance(value, np.ndarray) else value.numpy()
    return array


def _stacked(arrays: Sequence[Array]) -> Array:
    """Arrays of one batch, padded with zeros to the longest."""
    shape = np.max([array.shape for array in arrays], axis=0)
    stacked = np.zeros((len(arrays), *shape), arrays[0].dtype)
    for i, array in enumerate(arrays):
        place: Any = (i, *map(slice, array.shape))
        stacked[place] = array
    return stacked
