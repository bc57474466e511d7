"""Every answer that was paid for, by what was asked: a file of SQLite that outlives a kill."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from offline.enrich.answer import ItemAnswer

_BUSY_S: Final = 30.0


@dataclass(frozen=True)
class Stored:
    """What became of a question.

    Attributes:
        answer: None where no valid one came, after a second try.
        prompt_tokens: That the server counted, over both tries.
        completion_tokens: The same of the answers.
    """

    answer: ItemAnswer | None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class AnswerCache:
    """The answers, each on the disk before the next is asked for in its place.

    Several processes may use the file; two that ask the same at once both pay for it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, answer TEXT, "
            "prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL) STRICT"
        )

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[Self]:
        """The cache in a file, made where it is not there, closed in the end."""
        cache = cls(path)
        try:
            yield cache
        finally:
            cache.close()

    def known(self, questions: Iterable[str]) -> dict[str, Stored]:
        """What is stored of some questions, by their digests."""
        found = {}
        for question in questions:
            row = self._database.execute(
                "SELECT answer, prompt_tokens, completion_tokens FROM answers WHERE question = ?",
                (question,),
            ).fetchone()
            if row is not None:
                answer = None if row[0] is None else ItemAnswer.model_validate_json(row[0])
                found[question] = Stored(answer, row[1], row[2])
        return found

    def put(self, question: str, stored: Stored) -> None:
        """Stores what became of a question; it is on the disk when this returns."""
        answer = None if stored.answer is None else stored.answer.model_dump_json()
        self._database.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
            (question, answer, stored.prompt_tokens, stored.completion_tokens),
        )

    def size(self) -> int:
        """How many questions are stored."""
        return int(self._database.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Closes the file."""
        self._database.close()
