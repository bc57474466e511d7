"""A file is replaced whole or not at all."""

from contextlib import suppress
from pathlib import Path

import pytest

from serving.files.replacing import replacing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


def test_readers_find_the_old_until_the_new_is_whole(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_and_nothing_else(path: Path) -> None:
    with suppress(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("ne")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_private_file_is_never_open_to_others(path: Path) -> None:
    left = path.with_name(".file.tmp")
    left.write_text("by a process that was killed")
    left.chmod(0o644)
    with replacing(path, private=True) as temporary:
        assert temporary.read_text() == ""
        assert temporary.stat().st_mode & 0o777 == 0o600
        temporary.write_text("secret")
    assert path.stat().st_mode & 0o777 == 0o600
