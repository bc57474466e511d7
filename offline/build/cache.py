"""Stages that are made once and kept, each in a directory named after everything that goes into it.

That is a stage's settings, its source code with the versions of the libraries, and the content of
the stages that it starts from. So a change of the code makes a stage again, and those after it only
if it then comes to something else.

While a stage is made its directory is called `….partial`, which a killed run continues; the rename
at the end is what makes it exist. Only one process at a time makes a stage: others wait for it, and
use what it made.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from core.bundle import sha256
from offline.build.code import code_of
from offline.build.files import RECORD, read_json, write_json

Make = Callable[[Path], None]
"""Writes a stage's files into a directory, which may hold those of a run that was killed."""


class StageBusyError(Exception):
    """Another process makes a stage that processes of torchrun were to make together."""


@dataclass(frozen=True)
class Inputs:
    """Everything that decides what a stage comes to.

    Attributes:
        settings: What the stage is told, as JSON.
        code: By module and by library, as `offline.build.code.code_of` gives it.
        after: The digests of the stages that it reads.
    """

    settings: Any
    code: Mapping[str, str]
    after: tuple[str, ...] = ()

    def digest(self, name: str) -> str:
        """Of all of them and the stage's name."""
        facts = json.dumps([name, asdict(self)], sort_keys=True, default=str)
        return hashlib.sha256(facts.encode()).hexdigest()


@dataclass(frozen=True)
class Built:
    """A stage that exists.

    Attributes:
        name: Of the stage.
        digest: Of its files.
        path: Its directory.
    """

    name: str
    digest: str
    path: Path


class StageCache:
    """Where stages are made and kept.

    Args:
        root: the directory, which several processes may use at the same time.
        console: to say what is done.
        force: whether to make again what exists.
    """

    def __init__(self, root: Path, console: Console, *, force: bool = False) -> None:
        self.root = root
        self.console = console
        self.force = force

    def stage(
        self,
        name: str,
        make: Make,
        *,
        settings: Any = None,
        after: tuple[Built, ...] = (),
        code: str | None = None,
        together: bool = False,
    ) -> Built:
        """Makes a stage unless it exists.

        Args:
            name: of the stage; its directories start with it.
            make: writes its files.
            settings: what it is told, as JSON.
            after: the stages that it reads.
            code: the module that it runs; by default that of `make`.
            together: whether the processes that torchrun starts make it together.

        Raises:
            StageBusyError: it is to be made together, and another process makes it.
        """
        code = code or make.__module__
        inputs = Inputs(settings, code_of(code), tuple(built.digest for built in after))
        path = self.root / f"{name}-{inputs.digest(name)[:12]}"
        if path.is_dir() and not self.force:
            self.console.print(f"[dim]{name}: already built from the same inputs[/dim]")
            return _built(name, path)
        self.root.mkdir(parents=True, exist_ok=True)
        if together and _rank():
            self._join(path, make)
            return _built(name, path)
        with self._lock(path, wait=not (together and _world() > 1)) as waited:
            if not path.is_dir() or (self.force and not waited):
                self._make(name, path, make, inputs)
        return _built(name, path)

    def _make(self, name: str, path: Path, make: Make, inputs: Inputs) -> None:
        partial = _partial(path)
        if self.force:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        started = time.monotonic()
        self.console.print(f"[bold]{name}[/bold]")
        make(partial)
        record = {**asdict(inputs), "digest": _digest_of(partial)}
        write_json(partial / RECORD, record)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        self.console.print(f"[dim]{name}: {time.monotonic() - started:.1f} s[/dim]")

    def _join(self, path: Path, make: Make) -> None:
        """Helps the first process of torchrun, which alone keeps what is written."""
        with tempfile.TemporaryDirectory() as own:
            if _partial(path).is_dir() and not self.force:  # go on from the same checkpoint
                shutil.copytree(_partial(path), own, dirs_exist_ok=True)
            make(Path(own))
        with self._lock(path):
            """Until the first process is done."""

    @contextmanager
    def _lock(self, path: Path, *, wait: bool = True) -> Iterator[bool]:
        """Keeps other processes from making a stage; tells whether one of them was waited for."""
        with path.with_name(f".{path.name}.lock").open("a+", encoding="utf-8") as file:
            waited = not _try_lock(file.fileno())
            if waited:
                file.seek(0)
                busy = f"{path.name} is being made by {file.read() or 'another process'}"
                if not wait:
                    raise StageBusyError(f"{busy}: run this again when that is done")
                self.console.print(f"{busy}: waiting for it", highlight=False, soft_wrap=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield waited


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _built(name: str, path: Path) -> Built:
    return Built(name, read_json(path / RECORD)["digest"], path)


def _digest_of(directory: Path) -> str:
    """The digest of all files, with their names."""
    digest = hashlib.sha256()
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(directory)} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _rank() -> int:
    """Which of the processes that torchrun started this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def _world() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))
