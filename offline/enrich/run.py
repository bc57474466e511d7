"""Asking about many items: some at a time, and each once."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from offline.enrich.cache import AnswerCache, Stored
from offline.enrich.endpoint import Endpoint, EndpointError, Unanswered

GIVE_UP: Final = 10
"""After so many items in a row without an answer the server is taken for gone."""

Advance = Callable[[int], None]


@dataclass
class Run:
    """The questions of one run, and how it goes.

    Attributes:
        endpoint: Who is asked.
        cache: Where answers are found and put.
        concurrency: Questions that are asked at a time.
        retry_failed: Whether items without a valid answer in the cache are asked about again.
        unanswered: Why items got no answer, one reason each.
        stopped: Whether nothing more is asked.
    """

    endpoint: Endpoint
    cache: AnswerCache
    concurrency: int
    retry_failed: bool = False
    unanswered: list[str] = field(default_factory=list)
    stopped: bool = False
    _in_a_row: int = 0
    _error: EndpointError | None = None

    def pending(self, texts: Sequence[str]) -> dict[str, str]:
        """What there is to ask: texts by the digests of their questions, equal ones once."""
        questions = {self.endpoint.digest(text): text for text in texts}
        stored = self.cache.known(questions)
        done = {q for q, s in stored.items() if s.answer is not None or not self.retry_failed}
        return {question: text for question, text in questions.items() if question not in done}

    async def ask(self, texts: Sequence[str], advance: Advance = lambda _: None) -> list[Stored]:
        """Asks about items; what is in the cache is not asked again.

        Whatever stops it, answers that are under way are waited for and kept.

        Returns:
            What is known of each text afterwards; of those without an answer, no answer.

        Raises:
            EndpointError: the server cannot be asked, or has not answered `GIVE_UP` in a row.
        """
        pending = self.pending(texts)
        copies = Counter(map(self.endpoint.digest, texts))
        advance(sum(n for question, n in copies.items() if question not in pending))
        queue = deque(pending.items())

        async def work() -> None:
            while queue and not self.stopped:
                question, text = queue.popleft()
                await self._one(question, text)
                advance(copies[question])

        await asyncio.gather(*(work() for _ in range(min(self.concurrency, len(queue)))))
        if self._error is not None:
            raise self._error
        known = self.cache.known(copies)
        return [known.get(self.endpoint.digest(text), Stored(None)) for text in texts]

    def stop(self) -> None:
        """Asks nothing more."""
        self.stopped = True

    async def _one(self, question: str, text: str) -> None:
        try:
            stored = await self.endpoint.describe(text)
        except Unanswered as error:
            self.unanswered.append(str(error))
            self._in_a_row += 1
            if self._in_a_row >= GIVE_UP:
                self._fail(EndpointError(f"{GIVE_UP} items in a row got no answer: {error}"))
        except EndpointError as error:
            self._fail(error)
        else:
            self._in_a_row = 0
            self.cache.put(question, stored)

    def _fail(self, error: EndpointError) -> None:
        self._error = self._error or error
        self.stop()
