"""Training sequences cut into batches of next-item prediction at every position."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

IGNORE = -100
"""The target where there is nothing to predict; what torch's cross entropy skips."""


@dataclass(frozen=True)
class Batch:
    """Item numbers int64 [windows, items], padded at the end, and the item after each."""

    history: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None
    """float32 [windows, items + 1]: what each item that is read counts as something to learn, and
    the last target; None where all count alike."""


@dataclass(frozen=True)
class Window:
    """Consecutive items, of which each but the first `context + 1` is a target."""

    items: NDArray[np.int32]
    context: int
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """How many items are read: all but the last."""
        return len(self.items) - 1


def epoch_batches(
    sequences: Sequence[NDArray[np.int32]],
    max_history: int,
    batch_items: int,
    generator: np.random.Generator,
    weights: Sequence[NDArray[np.float32]] | None = None,
) -> Iterator[Batch]:
    """Every item but a sequence's first is a target once, after up to `max_history` items.

    A long sequence is cut into windows at a random phase, so that contexts vary between epochs;
    where a window reaches back into the one before, those items are context and no targets.
    Windows of similar length share a batch, in a random order of batches.
    """
    weighed = [None] * len(sequences) if weights is None else weights
    pairs = zip(sequences, weighed, strict=True)
    windows = [w for pair in pairs for w in _windows(*pair, max_history, generator)]
    # By a share of the length: where all are short, a few items more would be mostly padding.
    jittered = [len(window) * (1 + 0.3 * generator.random()) for window in windows]
    groups = _group([windows[i] for i in np.argsort(jittered)], batch_items)
    for i in generator.permutation(len(groups)):
        yield _pad(groups[i])


def _windows(
    sequence: NDArray[np.int32],
    weights: NDArray[np.float32] | None,
    size: int,
    generator: np.random.Generator,
) -> Iterator[Window]:
    pairs = len(sequence) - 1
    if pairs < 1:
        return
    phase = int(generator.integers(1, size + 1)) if pairs > size else pairs
    ends = [*range(phase, pairs, size), pairs]
    for start, end in pairwise([0, *ends]):
        begin = max(0, end - size)
        part = slice(begin, end + 1)
        yield Window(sequence[part], start - begin, None if weights is None else weights[part])


def _group(windows: Sequence[Window], batch_items: int) -> list[list[Window]]:
    """Cuts windows, roughly by length, into batches of at most `batch_items` with padding."""
    groups: list[list[Window]] = []
    longest = 0
    for window in windows:
        longest = max(longest, len(window))
        if not groups or (len(groups[-1]) + 1) * longest > batch_items:
            groups.append([])
            longest = len(window)
        groups[-1].append(window)
    return groups


def _pad(windows: Sequence[Window]) -> Batch:
    shape = (len(windows), max(map(len, windows)))
    history, targets = np.zeros(shape, np.int64), np.full(shape, IGNORE)
    for row, window in enumerate(windows):
        history[row, : len(window)] = window.items[:-1]
        targets[row, window.context : len(window)] = window.items[window.context + 1 :]
    if windows[0].weights is None:
        return Batch(history, targets)
    weights = np.zeros((shape[0], shape[1] + 1), np.float32)
    for row, window in enumerate(windows):
        weights[row, : len(window) + 1] = window.weights
    return Batch(history, targets, weights)
