"""Bundles in directories and in object storage."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.errors import SettingsError
from serving.bundles.delivery import Source

PIECE_BYTES: Final = 2**20


class Directory:
    """A bundle in a directory of this machine."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def read(self, name: str) -> Iterator[bytes]:
        """As `Source.read` says."""
        with (self._path / name).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece


class ObjectStorage:
    """A bundle in object storage; what its service needs beside the address is in the environment,
    such as AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT.

    Args:
        url: such as s3://bucket/bundles/ml-100k/0a1b2c3d4e5f.

    Raises:
        SettingsError: the library for it is missing, or the address is of no known kind.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore.store
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"{url} needs {error.name}: pip install '.[storage]' in Tandem's source"
            ) from error
        self.name = url.rstrip("/")
        plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
        options = {"timeout": "60s", "connect_timeout": "10s", "allow_http": plain}
        try:
            self._store = obstore.store.from_url(self.name, client_options=options)  # type: ignore[call-overload]
        except Exception as error:  # whatever an address that is none raises
            raise SettingsError(f"{url} is no address of object storage: {error}") from error

    def read(self, name: str) -> Iterator[bytes]:
        """As `Source.read` says."""
        import obstore

        try:
            for piece in obstore.get(self._store, name).stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except FileNotFoundError:
            raise
        except Exception as error:  # the services' own kinds
            raise OSError(str(error).partition("\n")[0]) from error


def source_of(place: str) -> Source:
    """A bundle by its place: a directory, or an address of object storage."""
    return ObjectStorage(place) if "://" in place else Directory(Path(place))
