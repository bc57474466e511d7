"""Files that one process has to itself, and that are what their schema says."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import ResourceExhausted, SettingsError, Unavailable
from serving.sqlite import (
    DurableFile,
    Schema,
    connect,
    read_facts,
    snapshot,
    storage_error,
    transaction,
    write_facts,
)

SCHEMA = Schema("the box", version="2", tables="CREATE TABLE IF NOT EXISTS things (x);")
FAILED = Unavailable("it fails", reason="BOX_FAILED")


def opened(path: Path, schema: Schema = SCHEMA) -> DurableFile:
    return DurableFile.open(path, schema, taken=f"{path.name} is taken")


def insert_and_fail(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        connection.execute("INSERT INTO things VALUES (2), (3)")
        connection.execute("INSERT INTO nothing VALUES (4)")


def test_a_file_keeps_its_facts_and_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "box.sqlite"
    file = opened(path)
    write_facts(file.connection, {"color": "red", "size": "9"})
    write_facts(file.connection, {"color": "blue"})
    with transaction(file.connection):
        file.connection.execute("INSERT INTO things VALUES (1)")
    with pytest.raises(sqlite3.Error):
        insert_and_fail(file.connection)
    file.close()
    file = opened(path)
    assert read_facts(file.connection) == {"schema": "2", "color": "blue", "size": "9"}
    assert file.connection.execute("SELECT x FROM things").fetchall() == [(1,)]
    assert file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    file.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    file = opened(tmp_path / "box.sqlite")
    with pytest.raises(SettingsError, match=r"box\.sqlite is taken"):
        opened(tmp_path / "box.sqlite")
    file.close()
    opened(tmp_path / "box.sqlite").close()


def test_a_file_of_another_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "box.sqlite"
    opened(path).close()
    later = Schema("the box", version="3", tables="CREATE TABLE more (x);")
    with pytest.raises(SettingsError, match="has schema 2, and this Tandem writes 3"):
        opened(path, later)
    with closing(connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    assert tables == [("facts",), ("things",)]


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_bytes(b"not a database" * 100), lambda path: path.mkdir()],
    ids=["text", "directory"],
)
def test_what_is_no_file_of_sqlite_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(tmp_path / "box.sqlite")
    with pytest.raises(SettingsError, match="cannot open the box"):
        opened(tmp_path / "box.sqlite")


def test_a_snapshot_does_not_see_what_is_written_meanwhile(tmp_path: Path) -> None:
    file = opened(tmp_path / "box.sqlite")
    count = "SELECT count(*) FROM things"
    with snapshot(file.path) as reader:
        assert reader.execute(count).fetchone() == (0,)
        file.connection.execute("INSERT INTO things VALUES (1)")
        assert reader.execute(count).fetchone() == (0,)
    file.close()


def test_a_full_disk_is_told_from_a_broken_one(tmp_path: Path) -> None:
    file = opened(tmp_path / "box.sqlite")
    file.connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(sqlite3.Error) as full:
        file.connection.execute("INSERT INTO things VALUES (zeroblob(100000))")
    error = storage_error(full.value, reason_full="BOX_FULL", otherwise=FAILED)
    assert isinstance(error, ResourceExhausted)
    assert error.reason == "BOX_FULL"
    assert error.retry_after > 0
    with pytest.raises(sqlite3.Error) as broken:
        file.connection.execute("INSERT INTO nothing VALUES (1)")
    assert storage_error(broken.value, reason_full="BOX_FULL", otherwise=FAILED) is FAILED
    file.close()
