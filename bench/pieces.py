"""Measurements that take longer than one sitting: pieces of work, each done once and kept.

A piece is a stage of `offline.build.stages.Workshop`: its directory is named after everything that
goes into it, and exists when it is whole. What was interrupted goes on from what it left.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.build.stages import Built
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


def as_built(stage: str, path: Path) -> Built:
    """A stage by the directory that `Pipeline.run` returned, which is named after its digest."""
    return Built(stage, path.name.removeprefix(f"{stage}-"), path)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Writes an array that is there as a whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Writes JSON that is there as a whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
