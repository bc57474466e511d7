"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Writes a file beside another, and puts it in its place once all of it is on the disk.

    Whoever reads the file finds the old one or the new one, also after a failure of the power.

    Args:
        path: of the file, whether it is there or not. Two writers at a time are not expected.
        private: whether it is for its owner alone, from the first byte on.

    Yields:
        An empty file, to be written to by its name.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # what a process left that was killed
    temporary.touch(0o600 if private else 0o666, exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
