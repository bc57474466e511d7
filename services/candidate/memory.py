"""Answers that are remembered: popular items are asked about again and again."""

from typing import Final, Generic, TypeVar

T = TypeVar("T")

ANSWERS: Final = 4_096
MAX_REQUEST_BYTES: Final = 512
MAX_ANSWER_BYTES: Final = 8_192
"""With the two above, at most 40 MB are remembered."""


class Memory(Generic[T]):
    """The latest answers by one version of the catalog, which is all that they depend on.

    For the event loop alone.
    """

    def __init__(self) -> None:
        self._sequence = 0
        self._answers: dict[bytes, T] = {}

    def recall(self, sequence: int, request: bytes) -> T | None:
        """The answer that this version gave to the same request, if it is remembered."""
        if sequence != self._sequence:
            self._sequence, self._answers = sequence, {}
        answer = self._answers.pop(request, None)
        if answer is not None:
            self._answers[request] = answer  # the newest again
        return answer

    def keep(self, sequence: int, request: bytes, answer: T, size: int) -> None:
        """Remembers an answer, unless it or its request is long, or another version is current.

        Args:
            sequence: of the version that gave it.
            request: what was asked.
            answer: what is not to be changed any more.
            size: of the answer, in bytes.
        """
        if sequence != self._sequence:
            return
        if len(request) > MAX_REQUEST_BYTES or size > MAX_ANSWER_BYTES:
            return
        self._answers[request] = answer
        if len(self._answers) > ANSWERS:
            del self._answers[next(iter(self._answers))]
