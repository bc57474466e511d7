"""Files that are read again when they change, so that secrets are exchanged without a restart."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from core.errors import SettingsError

log = structlog.get_logger()

CHECK_SECONDS: Final = 1.0
"""How long files are believed without a look at them."""
MAX_BYTES: Final = 2**20
"""Of a file: more than a thousand keys take."""

T = TypeVar("T")
_Stat = tuple[int, int, int]


class Watched(Generic[T]):
    """What some files say together; safe to use from several threads.

    Files that cannot be read or make no sense, as when one of them is not written to its end yet,
    leave what the files before said, and are told of in the log once.

    Args:
        paths: the files.
        load: makes the value from their contents; raises ValueError or SettingsError where they
            make no sense.
        check_seconds: how long the files are believed.
        clock: in seconds.

    Raises:
        SettingsError: the files make no sense now.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[..., T],
        *,
        check_seconds: float = CHECK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._load = load
        self._check_seconds = check_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._stats: Sequence[_Stat] = ()
        self._digest = b""
        self._complaint = ""
        self.generation = 0
        """How often the files have been taken over."""
        self._checked = clock()
        try:
            self._refresh()
        except (OSError, ValueError, SettingsError) as error:
            raise SettingsError(f"{self._names}: {_text(error)}") from error

    def current(self) -> T:
        """What the files say; looks at them where the last look is long enough ago."""
        with self._lock:
            now = self._clock()
            if now - self._checked >= self._check_seconds:
                self._checked = now
                try:
                    self._refresh()
                except (OSError, ValueError, SettingsError) as error:
                    self._complain(_text(error))
            return self._value

    def _refresh(self) -> None:
        # The look comes before the reading: what is written in between is read the next time.
        stats = [_look(path) for path in self._paths]
        if stats == self._stats:
            return
        contents = [_contents(path) for path in self._paths]
        self._stats = stats
        digest = b"".join(hashlib.sha256(content).digest() for content in contents)
        if digest == self._digest:
            return
        self._digest = digest
        self._value = self._load(*contents)
        self._complaint = ""
        self.generation += 1
        if self.generation > 1:
            log.info("files taken over", files=self._names)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.error("files not taken over", files=self._names, error=text)

    @property
    def _names(self) -> str:
        return ", ".join(map(str, self._paths))


def _look(path: Path) -> _Stat:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _contents(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is over {MAX_BYTES} bytes")
    return content


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return getattr(error, "message", None) or str(error)
