"""The best that always writing the same reaches."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from offline.evaluate.families.texts import TextScores

CANDIDATES: Final = 60
_COMPARED: Final = 400
"""Texts that a candidate is compared with, at most, to be one."""
_LOOKED_AT: Final = 20_000


def candidates(texts: Sequence[str], seed: int = 0) -> list[str]:
    """The training texts that share most words with others, and the most frequent ones.

    Args:
        texts: those that were learned from.
        seed: which are looked at where there are many.
    """
    if not texts:
        return []
    rng = np.random.default_rng(seed)
    some = [texts[i] for i in rng.permutation(len(texts))[:_LOOKED_AT]]
    words = CountVectorizer(binary=True).fit_transform(some).astype(float)
    lengths = np.asarray(words.sum(axis=1)).ravel() + 1
    other = words[:_COMPARED]
    shared = (words @ other.T).toarray() / (lengths[:, None] + lengths[None, :_COMPARED])
    central = [some[i] for i in np.argsort(-shared.mean(axis=1), kind="stable")[:CANDIDATES]]
    frequent = [text for text, _ in Counter(texts).most_common(CANDIDATES // 3)]
    return list(dict.fromkeys([*central, *frequent]))


def best_constants(candidates: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """The candidate with the highest BLEU-4, and that with the highest ROUGE-L.

    Args:
        candidates: to choose from, at least one.
        wanted: what users wrote, of validation.
    """
    scores = [TextScores.of([text] * len(wanted), wanted) for text in candidates]
    by_bleu = max(range(len(scores)), key=lambda i: scores[i].bleu4())
    by_rouge = max(range(len(scores)), key=lambda i: float(scores[i].rouge[:, -1].mean()))
    return {"BLEU-4": candidates[by_bleu], "ROUGE-L": candidates[by_rouge]}
