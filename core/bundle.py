"""The bundle: one version of everything that the services load, whole or not at all.

A bundle is written into a temporary directory, its manifest last, and then renamed
(`BundleWriter`). A reader checks the manifest and every checksum before it serves (`Bundle.open`).
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray
from pydantic import ValidationError

from core.catalog import Catalog, ItemArray
from core.errors import BundleError
from core.manifest import SCHEMA_VERSION, FileEntry, Manifest
from core.signature import check_signature

MANIFEST: Final = "manifest.json"


class Bundle:
    """A verified bundle on disk. Its parts are read when first asked for."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def version(self) -> str:
        """What every response names as the bundle that served it."""
        return f"{self.manifest.name}/{self.manifest.version}"

    @classmethod
    def open(
        cls, path: Path, *, verify: bool = True, key: Ed25519PublicKey | None = None
    ) -> "Bundle":
        """Opens a bundle and, unless told otherwise, checks every file against the manifest.

        Args:
            path: the directory of a version, or a link to one such as `bundles/ml-100k/current`.
            verify: whether to read every file and compare its checksum.
            key: that the manifest must be signed with; None to take any manifest.

        Raises:
            BundleError: it is not there, not whole, altered, of another schema, or not signed.
        """
        path = path.resolve()  # a link may move while we read: stay with the version it names now
        manifest = _read_manifest(path, key)
        if verify:
            _check_files(path, manifest)
        return cls(path, manifest)

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path} has no {name}; rebuild it with `tandem build`")
        return self.path / name

    def array(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        """Reads `<name>.npy`, memory-mapped and read-only."""
        try:
            array: NDArray[Any] = np.load(
                self.file(f"{name}.npy"), mmap_mode="r", allow_pickle=False
            )
        except ValueError as error:  # not an array, or one of pickled objects
            raise BundleError(f"{name}.npy is not a plain array: {error}") from error
        if array.dtype != dtype:
            raise BundleError(f"{name}.npy holds {array.dtype}, not {np.dtype(dtype)}")
        return array

    @cached_property
    def catalog(self) -> Catalog:
        """The items, in position order."""
        catalog = Catalog.read(self.file("catalog.jsonl"))
        if len(catalog) != self.manifest.items:
            raise BundleError(
                f"catalog.jsonl has {len(catalog)} items, the manifest {self.manifest.items}"
            )
        return catalog

    @cached_property
    def histories(self) -> "Histories":
        """The interactions of the users in the data."""
        return Histories.read(self)


@dataclass(frozen=True)
class Histories:
    """What each known user interacted with, oldest first."""

    user_index: dict[str, int]
    indptr: NDArray[np.int64]
    items: ItemArray
    times: NDArray[np.int64] | None = None
    """When each of `items` was, in microseconds since 1970; None where that is not known."""
    ratings: NDArray[np.float32] | None = None
    """How each of `items` was rated; None where the model has not learned ratings."""

    @classmethod
    def read(cls, bundle: Bundle) -> "Histories":
        """Reads `users.json` and the arrays beside it.

        Raises:
            BundleError: they do not belong together, or name items that the catalog lacks.
        """
        users = _read_users(bundle.file("users.json"))
        indptr = bundle.array("histories_indptr", np.int64)
        items = bundle.array("histories_items", np.int32)
        if (
            len(indptr) != len(users) + 1
            or (indptr[0], indptr[-1]) != (0, len(items))
            or (np.diff(indptr) < 0).any()
        ):
            raise BundleError("histories_indptr.npy does not divide the histories among the users")
        if len(items) and not (items.min() >= 0 and items.max() < bundle.manifest.items):
            raise BundleError("histories_items.npy names items that the catalog does not have")
        times, ratings = _read_times(bundle, indptr), None
        if "histories_ratings.npy" in bundle.manifest.files:
            ratings = bundle.array("histories_ratings", np.float32)
            if len(ratings) != len(items):
                raise BundleError("histories_ratings.npy does not rate the items of the histories")
        return cls({user: i for i, user in enumerate(users)}, indptr, items, times, ratings)

    def of(self, user_id: str) -> ItemArray | None:
        """The user's items as positions, or None for an unknown user."""
        part = self._part(user_id)
        return None if part is None else self.items[part]

    def times_of(self, user_id: str) -> NDArray[np.int64] | None:
        """When each of the user's items was; None for an unknown user, and without `times`."""
        part = self._part(user_id)
        return None if part is None or self.times is None else self.times[part]

    def ratings_of(self, user_id: str) -> NDArray[np.float32] | None:
        """How the user rated each item; None for an unknown user, and without `ratings`."""
        part = self._part(user_id)
        return None if part is None or self.ratings is None else self.ratings[part]

    def _part(self, user_id: str) -> slice | None:
        user = self.user_index.get(user_id)
        return None if user is None else slice(self.indptr[user], self.indptr[user + 1])


@contextmanager
def write_bundle(root: Path, manifest: Manifest) -> Iterator[Path]:
    """Writes `root/<name>/<version>` atomically.

    Yields a temporary directory beside the destination to put the files into. When the block ends
    without an error the manifest, with the checksums of all files, is written last, the directory
    is renamed into place, and `root/<name>/current` is switched to it. After an error nothing is
    left.
    """
    parent = root / manifest.name
    parent.mkdir(parents=True, exist_ok=True)
    destination = parent / manifest.version
    staging = Path(tempfile.mkdtemp(prefix=f".{manifest.version}.", dir=parent))
    try:
        yield staging
        files = {
            str(file.relative_to(staging)): FileEntry(
                sha256=sha256(file), bytes=file.stat().st_size
            )
            for file in sorted(staging.rglob("*"))
            if file.is_file()
        }
        whole = manifest.model_copy(update={"files": files})
        (staging / MANIFEST).write_text(whole.model_dump_json(indent=2) + "\n", encoding="utf-8")
        sync(staging)
        staging.chmod(0o755)
        replace(staging, destination)
        point(parent / "current", manifest.version)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions(root: Path) -> list[Path]:
    """The bundles under a root such as `bundles/`, oldest version first within each name."""
    found = [path.parent for path in root.glob(f"*/*/{MANIFEST}")]
    return sorted(
        # A dot marks what a killed writer left behind, a link is `current`.
        path
        for path in found
        if not path.name.startswith(".") and not path.is_symlink()
    )


def _read_manifest(path: Path, key: Ed25519PublicKey | None) -> Manifest:
    file = path / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} is not a bundle: it has no readable {MANIFEST}; make one with `tandem build`"
        ) from error
    if key is not None:
        check_signature(path, content, key)
    return parse_manifest(content, str(file))


def parse_manifest(content: bytes, source: str) -> Manifest:
    """Reads a manifest.

    Args:
        content: of the file.
        source: what to call it in errors.

    Raises:
        BundleError: it is none, or one of another schema.
    """
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(
            f"{source} is not a manifest of this version of Tandem: {error}"
        ) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise BundleError(
            f"{source} has schema version {manifest.schema_version}, "
            f"and this Tandem reads {SCHEMA_VERSION}"
        )
    return manifest


def _read_users(file: Path) -> list[str]:
    try:
        users = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: {error}") from error
    if not isinstance(users, list) or not all(isinstance(user, str) for user in users):
        raise BundleError(f"{file} is not a list of users")
    if len(set(users)) != len(users):
        raise BundleError(f"{file} names users twice")
    return users


def _read_times(bundle: Bundle, indptr: NDArray[np.int64]) -> NDArray[np.int64] | None:
    if "histories_times.npy" not in bundle.manifest.files:
        return None
    times = bundle.array("histories_times", np.int64)
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    if (
        len(times) != len(users)
        or (times < 0).any()
        or ((np.diff(times) < 0) & (np.diff(users) == 0)).any()
    ):
        raise BundleError("histories_times.npy does not say when the items of the histories were")
    return times


def _check_files(path: Path, manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        file = place_in(path, name, str(path))
        if not file.is_file():
            raise BundleError(f"{file} is missing")
        if file.stat().st_size != entry.bytes or sha256(file) != entry.sha256:
            raise BundleError(f"{file} is not the file that the manifest describes")


def place_in(directory: Path, name: str, source: str) -> Path:
    """Where a file of a manifest is in the bundle's directory.

    Args:
        directory: of the bundle.
        name: that the manifest has.
        source: what to call the bundle in errors.

    Raises:
        BundleError: it would not be in the directory.
    """
    file = directory / name
    if not file.resolve().is_relative_to(directory.resolve()):
        raise BundleError(f"the manifest of {source} names a file outside of it: {name}")
    return file


def sync(directory: Path) -> None:
    """Forces the files to disk, so that the rename never exposes a half-written bundle."""
    for path in [*directory.rglob("*"), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace(staging: Path, destination: Path) -> None:
    """Renames into place; a version that is there already goes only once the new one is there."""
    if not destination.exists():
        staging.rename(destination)
        return
    old = staging.with_name(f"{staging.name}.old")
    destination.rename(old)
    staging.rename(destination)
    shutil.rmtree(old)


def point(link: Path, target: str) -> None:
    """Switches a symbolic link atomically."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
