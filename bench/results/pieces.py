"""Measurements that take longer than one sitting: pieces of work, each done once and kept.

A piece is a stage of `offline.build.cache.StageCache`: its directory is named after everything that
goes into it, and exists when it is whole. What was interrupted goes on from what it left.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.results.files import write_json
from offline.training import deadline


@dataclass(frozen=True)
class Pieces:
    """The pieces of a measurement: what is done, and how long each took over all sittings.

    Args:
        path: of the JSON file that keeps the seconds.
        planned: the names of all pieces, in their order.
    """

    path: Path
    planned: tuple[str, ...]
    _done: set[str] = field(default_factory=set)

    @property
    def left(self) -> list[str]:
        """Those that are not done yet."""
        return [piece for piece in self.planned if piece not in self._done]

    def seconds(self) -> dict[str, float]:
        """Seconds by piece; what was there before, of another build, took none."""
        if not self.path.is_file():
            return {}
        known: dict[str, float] = json.loads(self.path.read_text(encoding="utf-8"))
        return known

    @contextmanager
    def piece(self, name: str) -> Iterator[None]:
        """What is done inside is one piece, or what there was time for of it.

        Raises:
            OutOfTime: there is no time to begin.
        """
        deadline.check()
        started = time.monotonic()
        try:
            yield
            self._done.add(name)
        finally:
            known = self.seconds()
            spent = known.get(name, 0.0) + time.monotonic() - started
            write_json(self.path, {**known, name: round(spent, 2)})
