"""What an item's score is made of: the log-probability of each token of its code.

A reranking adds them up along each code. So a code is asked for once per token, with all others
left out: the same pass of the model, and the same numbers.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.generator.decoding.engine import DecodingJob, GeneratorEngine, RankingAnswer
from services.generator.decoding.trie import PrefixTree


@dataclass(frozen=True)
class Token:
    """A token of a code."""

    text: str
    log_probability: float
    """After the tokens before it."""


@dataclass(frozen=True)
class Code:
    """An item's code, and what the model makes of it."""

    text: str
    tokens: tuple[Token, ...]


def by_token(job: DecodingJob) -> DecodingJob:
    """Turns a job that scores a shortlist into one that scores each token of its codes.

    The items of its answer are not positions: row `i * levels + l` is token `l` of item `i`.

    Raises:
        ValueError: the job has no shortlist.
    """
    if job.shortlist is None:
        raise ValueError("there is no shortlist to diagnose")
    levels = job.snapshot.trie.levels
    rows = np.arange(len(job.shortlist) * levels, dtype=np.int32)
    return replace(job, trees=tuple(map(_by_token, job.trees)), shortlist=rows)


def _by_token(tree: PrefixTree) -> PrefixTree:
    items, levels = tree.child.shape
    alone = np.tile(np.eye(levels, dtype=np.bool_), (items, 1))
    child = np.where(alone, np.repeat(tree.child, levels, axis=0), -1)
    return replace(tree, path=np.repeat(tree.path, levels, axis=0), child=child.astype(np.int32))


def read_tokens(answer: RankingAnswer, levels: int) -> NDArray[np.float32]:
    """The log-probabilities in a `by_token` job's answer. Shape [items, levels]; 0 for padding."""
    ranked = answer.reranked
    if ranked is None:
        raise ValueError("the answer has no shortlist")
    scores = np.empty(len(ranked.items), np.float32)
    scores[ranked.items] = ranked.scores
    return scores.reshape(-1, levels)


def codes(
    engine: GeneratorEngine,
    items: NDArray[np.int32],
    log_probabilities: NDArray[np.float32],
) -> list[Code]:
    """Puts the codes of items together with the log-probabilities of their tokens."""
    parts, snapshot = engine.parts, engine.snapshot
    return [
        Code(
            snapshot.code_texts[item],
            tuple(
                Token(parts.tokenizer.id_to_token(token) or str(token), score)
                for token, score in zip(snapshot.codes[item].tolist(), row, strict=True)
                if token != parts.section.pad_token
            ),
        )
        for item, row in zip(items.tolist(), log_probabilities.tolist(), strict=True)
    ]
