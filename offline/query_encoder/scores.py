"""The retrieval's sources for many users at once, to choose the blend's weights by.

The same encoder graph and the same transitions as in serving: what `blend` returns is, up to a
constant of each user, what `CandidateEngine.search` ranks by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from services.candidate.encoders import OnnxQueryEncoder
from services.candidate.transitions import Transitions

FloatArray = NDArray[np.float32]

_USERS_AT_ONCE = 64


@dataclass(frozen=True)
class SourceScores:
    """Log-probabilities of every item to come next, by source, float32 [users, items]."""

    behavior: FloatArray
    transitions: FloatArray

    def blend(self, behavior_weight: float, transition_weight: float) -> FloatArray:
        """The retrieval score, float32 [users, items]."""
        weighted: FloatArray = np.float32(behavior_weight) * self.behavior
        weighted += np.float32(transition_weight) * self.transitions
        return weighted


def source_scores(
    encoder: OnnxQueryEncoder,
    behavior_vectors: FloatArray,
    transitions: Transitions,
    histories: Sequence[NDArray[np.int32]],
    max_history: int,
    progress: Progress | None = None,
) -> SourceScores:
    """Scores all items after every history.

    Args:
        encoder: the exported query encoder.
        behavior_vectors: float32 [items, dimension].
        transitions: of the training part.
        histories: item positions, oldest first, each with at least one.
        max_history: newest items that the encoder reads.
        progress: a bar to count users on.

    Raises:
        ValueError: a history is empty.
    """
    if empty := [user for user, history in enumerate(histories) if not len(history)]:
        raise ValueError(f"history {empty[0]} is empty: popularity answers for it, not these")
    items = np.arange(len(behavior_vectors), dtype=np.int32)
    behavior = np.empty((len(histories), len(items)), dtype=np.float32)
    moves = np.empty_like(behavior)
    bar = progress or Progress(disable=True)
    task = bar.add_task("Scoring histories", total=len(histories))
    for start in range(0, len(histories), _USERS_AT_ONCE):
        part = histories[start : start + _USERS_AT_ONCE]
        rows = slice(start, start + len(part))
        queries = encoder.encode_batch([behavior_vectors[h[-max_history:]] for h in part])
        behavior[rows] = _log_softmax(queries @ behavior_vectors.T)
        for row, history in zip(moves[rows], part, strict=True):
            row[:] = transitions.log_probability(items, *transitions.after(history))
        bar.advance(task, len(part))
    return SourceScores(behavior, moves)


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
