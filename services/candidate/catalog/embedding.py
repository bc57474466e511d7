"""Embedding the texts of many callers in batches, on a thread of its own.

Whoever sends one text while another sends a thousand does not wait for the thousand: each batch
takes some of every caller's. Searches have the other threads.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.candidate.index.flat import Vector
from serving.batch_queue import BatchQueue, Place, nothing_more

BATCH: Final = 32
"""Texts in a batch, at most: some tenths of a second with a small model on one core."""


@dataclass(frozen=True)
class _Text:
    caller: object
    text: str


_TextPlace = Place[_Text, Vector]


class TextBatches:
    """Embeds texts.

    Args:
        embed: makes float32 [texts, dimension] of a batch; blocks.
        max_waiting: texts that may wait.
    """

    def __init__(self, embed: Callable[[Sequence[str]], Vector], max_waiting: int) -> None:
        self._embed = embed
        self._queue: BatchQueue[_Text, Vector] = BatchQueue(
            self._run,
            _from_every_caller,
            max_waiting=max_waiting,
            reason="WRITE_QUEUE_FULL",
            waits="texts wait to be embedded",
        )

    async def embed(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts, at least one: float32 [texts, dimension].

        Raises:
            ResourceExhausted: too many texts wait, reason WRITE_QUEUE_FULL.
            Exception: what embedding one of them raised.
        """
        caller = object()
        # The shortest first, so that those of a batch are alike.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = await self._queue.submit_all([_Text(caller, texts[i]) for i in order])
        embedded: Vector = np.stack(vectors)[np.argsort(order)]
        return embedded

    async def close(self) -> None:
        """Takes no more from now on, embeds what waits, and ends the thread."""
        await self._queue.close()
        self._embed = nothing_more  # else a cycle, as in `BatchQueue.close`

    def _run(self, batch: Sequence[_TextPlace]) -> None:
        vectors = self._embed([place.job.text for place in batch])
        for place, vector in zip(batch, vectors, strict=True):
            place.settle(vector)


def _from_every_caller(ready: Sequence[_TextPlace]) -> Sequence[_TextPlace]:
    """Texts of every caller in turn."""
    by_caller: dict[object, list[_TextPlace]] = {}
    for place in ready:
        by_caller.setdefault(place.job.caller, []).append(place)
    turns = itertools.zip_longest(*by_caller.values())
    in_turn = (place for turn in turns for place in turn if place is not None)
    return list(itertools.islice(in_turn, BATCH))
