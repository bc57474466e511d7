"""Bringing a bundle from where it is kept to where it is served: whole, checked, or not at all."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.bundle import MANIFEST, parse_manifest, place_in, replace, sync
from core.errors import BundleError
from core.manifest import FileEntry, Manifest
from core.signature import MAX_SIGNATURE_BYTES, SIGNATURE, check_signature

MAX_MANIFEST_BYTES: Final = 64 * 2**20


class Source(Protocol):
    """Where a bundle is kept."""

    @property
    def name(self) -> str:
        """What to call it in errors."""

    def read(self, name: str) -> Iterator[bytes]:
        """The content of one of its files, piece by piece.

        Raises:
            FileNotFoundError: there is none of that name.
            OSError: it cannot be read.
        """


def fetch(
    source: Source,
    root: Path,
    key: Ed25519PublicKey | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Path:
    """Copies a bundle to `root/<name>/<version>`.

    Every file is compared with the manifest while it comes, and no more of it is taken than that
    says. Processes see the directory whole, or not at all. A version that is there with the same
    manifest stays as it is.

    Args:
        source: of the bundle.
        root: such as bundles/.
        key: that the manifest must be signed with; None to take any manifest.
        progress: told how many bytes of how many are there.

    Returns:
        The directory of the version.

    Raises:
        BundleError: it is not whole, altered, or not signed; or the source cannot be read.
    """
    content = _read_whole(source, MANIFEST, MAX_MANIFEST_BYTES)
    manifest = parse_manifest(content, f"{source.name}/{MANIFEST}")
    destination = root / manifest.name / manifest.version
    destination.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{manifest.version}.", dir=destination.parent))
    try:
        if key is not None:
            signature = _read_whole(source, SIGNATURE, MAX_SIGNATURE_BYTES)
            (staging / SIGNATURE).write_bytes(signature)
            check_signature(staging, content, key)
        if _is_there(destination, content):
            return destination
        _fetch_files(source, staging, manifest, progress)
        (staging / MANIFEST).write_bytes(content)
        sync(staging)
        staging.chmod(0o755)
        replace(staging, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return destination


def _fetch_files(
    source: Source, staging: Path, manifest: Manifest, progress: Callable[[int, int], None]
) -> None:
    total, done = sum(entry.bytes for entry in manifest.files.values()), 0
    for name, entry in manifest.files.items():
        file = place_in(staging, name, source.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        for size in _fetch_file(source, name, entry, file):
            progress(done + size, total)
        done += entry.bytes


def _fetch_file(source: Source, name: str, entry: FileEntry, file: Path) -> Iterator[int]:
    """Writes a file, and yields how much of it is there."""
    digest, size = hashlib.sha256(), 0
    with file.open("xb") as opened:
        for piece in _pieces(source, name):
            size += len(piece)
            if size > entry.bytes:
                break
            digest.update(piece)
            opened.write(piece)
            yield size
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        raise BundleError(f"{source.name}/{name} is not the file that the manifest describes")


def _read_whole(source: Source, name: str, limit: int) -> bytes:
    content = bytearray()
    for piece in _pieces(source, name):
        content += piece
        if len(content) > limit:
            raise BundleError(f"{source.name}/{name} has over {limit} bytes")
    return bytes(content)


def _pieces(source: Source, name: str) -> Iterator[bytes]:
    try:
        yield from source.read(name)
    except FileNotFoundError as error:
        raise BundleError(f"{source.name} has no {name}") from error
    except OSError as error:
        raise BundleError(f"{source.name}/{name} cannot be read: {error}") from error


def _is_there(destination: Path, manifest: bytes) -> bool:
    file = destination / MANIFEST
    return file.is_file() and file.read_bytes() == manifest
