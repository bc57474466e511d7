"""What a run will cost, in tokens and in money."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from offline.enrich.cache import Stored
from offline.enrich.prompts import ask

SAMPLE: Final = 200
"""Questions whose length is looked at."""
_BYTES_A_TOKEN: Final = 4.0
"""Of English; for other writing the estimate is too low until tokens were counted."""
_ANSWER_TOKENS: Final = 80.0


@dataclass(frozen=True)
class Prices:
    """Per million tokens, in any currency."""

    prompt: float
    completion: float


@dataclass(frozen=True)
class Estimate:
    """What is about to be used.

    Attributes:
        questions: To ask.
        prompt_tokens: Over all of them.
        completion_tokens: Over all answers.
        measured: Answers whose tokens the server counted, which this is from; at 0 it is from the
            lengths of prompts.
    """

    questions: int
    prompt_tokens: int
    completion_tokens: int
    measured: int

    def cost(self, prices: Prices) -> float:
        """In the prices' currency."""
        used = self.prompt_tokens * prices.prompt + self.completion_tokens * prices.completion
        return used / 1e6


def estimate(pending: Sequence[str], known: Collection[Stored]) -> Estimate:
    """Estimates from a sample.

    Args:
        pending: texts that are asked about.
        known: answers to others of the same kind, such as those of a dry run.
    """
    counted = [stored for stored in known if stored.prompt_tokens]
    if counted:
        prompt = _mean([stored.prompt_tokens for stored in counted])
        completion = _mean([stored.completion_tokens for stored in counted])
    else:
        step = max(1, len(pending) // SAMPLE)
        prompt = _mean([_prompt_tokens(text) for text in pending[::step]])
        completion = _ANSWER_TOKENS
    count = len(pending)
    return Estimate(count, round(count * prompt), round(count * completion), len(counted))


def _prompt_tokens(text: str) -> float:
    return len(json.dumps(ask(text), ensure_ascii=False).encode()) / _BYTES_A_TOKEN


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
