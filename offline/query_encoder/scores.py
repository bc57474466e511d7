"""The retrieval's sources for many users at once, to choose the blend's weights by.

The same encoder graph, transitions and vectors as in serving: weighted and added up, these scores
are, up to a constant of each user, what `CandidateEngine.search` ranks by.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from services.candidate.encoders import OnnxQueryEncoder
from services.candidate.popularity import Popularity
from services.candidate.transitions import Transitions

FloatArray = NDArray[np.float32]
Histories = Sequence[NDArray[np.int32]]

_USERS_AT_ONCE: Final = 64
_LEAST: Final = np.finfo(np.float32).tiny  # opposite vectors have a mean without direction


def behavior_scores(
    encoder: OnnxQueryEncoder,
    vectors: FloatArray,
    histories: Histories,
    max_history: int,
    progress: Progress | None = None,
) -> FloatArray:
    """The query encoder's log-probabilities of every item to come next, [users, items].

    Args:
        encoder: the exported query encoder.
        vectors: of the behavior space, float32 [items, dimension].
        histories: item positions, oldest first, each with at least one.
        max_history: newest items that the encoder reads.
        progress: a bar to count users on.

    Raises:
        ValueError: a history is empty.
    """
    if empty := [user for user, history in enumerate(histories) if not len(history)]:
        raise ValueError(f"history {empty[0]} is empty: popularity answers for it, not these")
    scores = np.empty((len(histories), len(vectors)), dtype=np.float32)
    bar = progress or Progress(disable=True)
    task = bar.add_task("Scoring histories", total=len(histories))
    for start in range(0, len(histories), _USERS_AT_ONCE):
        part = histories[start : start + _USERS_AT_ONCE]
        queries = encoder.encode_batch([vectors[h[-max_history:]] for h in part])
        scores[start : start + len(part)] = _log_softmax(queries @ vectors.T)
        bar.advance(task, len(part))
    return scores


def transition_scores(transitions: Transitions, histories: Histories) -> FloatArray:
    """The smoothed log-probabilities to go on to every item, float32 [users, items]."""
    items = np.arange(len(transitions), dtype=np.int32)
    scores = np.empty((len(histories), len(items)), dtype=np.float32)
    for row, history in zip(scores, histories, strict=True):
        row[:] = transitions.log_probability(items, *transitions.after(history))
    return scores


def content_scores(vectors: FloatArray, histories: Histories, window: int) -> FloatArray:
    """The cosines of every item to the newest items of each history, float32 [users, items].

    Args:
        vectors: of the content space, float32 [items, dimension].
        histories: item positions, oldest first, each with at least one.
        window: newest items of a history that count, as in the transitions.
    """
    means = np.stack([vectors[history[-window:]].mean(axis=0) for history in histories])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    scores: FloatArray = (means / np.maximum(norms, _LEAST)) @ vectors.T
    return scores


def popularity_scores(counts: NDArray[np.int64]) -> FloatArray:
    """The logarithm of every item's share of all interactions, float32 [items]."""
    items = np.arange(len(counts), dtype=np.int32)
    return Popularity.of(counts).log_probability(items).astype(np.float32)


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
