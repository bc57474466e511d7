"""What is remembered, and what no longer is."""

from services.candidate.memory import ANSWERS, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Memory


def test_an_answer_is_remembered_until_the_next_version() -> None:
    memory: Memory[str] = Memory()
    memory.keep(0, b"a", "answer", 6)
    assert memory.recall(0, b"a") == memory.recall(0, b"a") == "answer"
    assert memory.recall(0, b"b") is None
    assert memory.recall(1, b"a") is None
    memory.keep(0, b"a", "of a version that is gone", 6)
    assert memory.recall(1, b"a") is None
    memory.keep(1, b"a", "new", 3)
    assert memory.recall(1, b"a") == "new"


def test_the_longest_unasked_is_forgotten_first() -> None:
    memory: Memory[int] = Memory()
    requests = [str(number).encode() for number in range(ANSWERS + 1)]
    for number, request in enumerate(requests[:-1]):
        memory.keep(0, request, number, 1)
    assert memory.recall(0, requests[0]) == 0
    memory.keep(0, requests[-1], ANSWERS, 1)
    assert memory.recall(0, requests[0]) == 0
    assert memory.recall(0, requests[1]) is None
    assert memory.recall(0, requests[2]) == 2


def test_what_is_long_is_not_remembered() -> None:
    memory: Memory[str] = Memory()
    memory.keep(0, b"a", "long", MAX_ANSWER_BYTES + 1)
    memory.keep(0, b"a" * (MAX_REQUEST_BYTES + 1), "short", 1)
    assert memory.recall(0, b"a") is memory.recall(0, b"a" * (MAX_REQUEST_BYTES + 1)) is None
