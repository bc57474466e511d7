"""Files that are read again when they change: never half of one, and told of once."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.errors import SettingsError
from serving.files.watched import MAX_BYTES, Watched


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def number(content: bytes) -> int:
    """What the files say: a number, and how often it was read."""
    return int(content)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def watch(file: Path) -> Watched[int]:
    return Watched([file], number, check_seconds=0)


def test_a_new_file_is_taken_over(file: Path) -> None:
    watched = watch(file)
    assert (watched.current(), watched.generation) == (1, 1)
    file.write_text("22")
    assert (watched.current(), watched.generation) == (22, 2)


def test_the_same_size_at_another_time_counts(file: Path) -> None:
    watched = watch(file)
    file.write_text("2")
    os.utime(file, ns=(1, 1))
    assert watched.current() == 2


def test_a_file_that_was_only_touched_changes_nothing(file: Path) -> None:
    watched = watch(file)
    os.utime(file, ns=(1, 1))
    assert (watched.current(), watched.generation) == (1, 1)


def test_a_broken_file_keeps_the_old_and_is_told_once(file: Path) -> None:
    watched = watch(file)
    with capture_logs() as logs:
        file.write_text("no number")
        assert [watched.current() for _ in range(3)] == [1, 1, 1]
        file.unlink()
        assert [watched.current() for _ in range(3)] == [1, 1, 1]
        file.write_text("3")
        assert watched.current() == 3
    events = [line["event"] for line in logs]
    assert events == ["files not taken over"] * 2 + ["files taken over"]
    assert str(file) in logs[0]["files"]


def test_it_is_not_looked_at_before_its_time(file: Path) -> None:
    clock = Clock()
    watched = Watched([file], number, check_seconds=5.0, clock=clock)
    file.write_text("22")
    clock.now = 4.9
    assert watched.current() == 1
    clock.now = 5.0
    assert watched.current() == 22


def test_a_huge_file_is_not_read(file: Path) -> None:
    watched = watch(file)
    file.write_bytes(b"1" * (MAX_BYTES + 1))
    assert watched.current() == 1


@pytest.mark.parametrize("content", [None, "no number"])
def test_what_makes_no_sense_at_first_is_refused(file: Path, content: str | None) -> None:
    file.write_text(content) if content else file.unlink()
    with pytest.raises(SettingsError, match=str(file)):
        watch(file)
