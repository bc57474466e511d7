"""Gets the answers of many requests from a gateway that may go away in between."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from serving.background import Backoff
from tandem import Client, Error
from tandem.errors import from_status
from tandem.v1 import recommendation_service_pb2 as pb

_PASSES: Final = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED", "ABORTED"})
"""Trouble of the servers, which passes: not an answer to a row."""
_MAY_PASS: Final = frozenset({"DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"})
"""Trouble of the servers, or what this row does to them: an answer when it comes again."""
_ATTEMPTS: Final = 3


class BatchError(RuntimeError):
    """A batch cannot go on."""


class Sender:
    """Gets the answers of some rows, however often the stream to the gateway breaks.

    Args:
        client: of the gateway.
        make: makes the request of a row.
        patience: seconds without any answer after which it gives up.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        client: Client,
        make: Callable[[Mapping[str, Any]], pb.RecommendRequest],
        *,
        patience: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._make = make
        self._patience = patience
        self._sleep = sleep

    def send(
        self, rows: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[Mapping[str, Any], pb.BatchRecommendResponse]]:
        """Yields each row with its answer, in the order in which they come.

        Raises:
            BatchError: there was no answer for so long that somebody should look.
            Error: the gateway refuses the stream, and would again.
        """
        left = {str(row["row"]): row for row in rows}
        attempts = dict.fromkeys(left, 0)
        backoff, last_answer = Backoff(first=0.2, limit=5.0), time.monotonic()
        while left:
            trouble = ""
            wait = 0.0
            try:
                for response in self._client.batch_recommend(self._requests([*left.values()])):
                    failure = from_status(response.error)
                    code = failure.code.name
                    attempts[response.id] += 1
                    if code in _PASSES or (code in _MAY_PASS and attempts[response.id] < _ATTEMPTS):
                        trouble = str(failure)
                        wait = max(wait, failure.retry_after or 0.0)
                        continue
                    last_answer = time.monotonic()
                    backoff.reset()
                    yield left.pop(response.id), response
            except Error as error:
                if error.code.name not in _PASSES | _MAY_PASS:
                    raise
                trouble = str(error)
            if left:
                if time.monotonic() - last_answer > self._patience:
                    raise BatchError(
                        f"no answer for {self._patience:g} seconds ({trouble}); "
                        "the same command goes on from here"
                    )
                self._sleep(max(wait, backoff.next()))

    def _requests(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[pb.BatchRecommendRequest]:
        for row in rows:
            yield pb.BatchRecommendRequest(id=str(row["row"]), request=self._make(row))
