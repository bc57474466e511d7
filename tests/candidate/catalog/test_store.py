"""The store: order, compaction, one owner, and what is left when the disk does not play along."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalog import CatalogItem, Delete
from core.codes import ItemCode
from core.errors import ResourceExhausted, SettingsError, Unavailable
from services.candidate.catalog import store as store_module
from services.candidate.catalog.fingerprint import BundleFingerprint
from services.candidate.catalog.store import ItemStore, read_items
from services.candidate.changes import PlacedChange, PlacedItem

BASE = BundleFingerprint("films", "1", "digest", "encoder")


def item(item_id: str, title: str = "A Film", seed: int = 0) -> PlacedItem:
    rng = np.random.default_rng(seed)
    return PlacedItem(
        CatalogItem(
            item_id, title, "Text é 電影", {"genre": ("War", "Drama"), "year": (1990.5,)}, 3
        ),
        rng.normal(size=6).astype(np.float32),
        rng.normal(size=4).astype(np.float32),
        ItemCode("<a_1><b_2>", (1, 2)),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ItemStore]:
    store = ItemStore.open(tmp_path / "items.sqlite")
    yield store
    store.close()


def assert_same(found: PlacedChange, expected: PlacedChange) -> None:
    if isinstance(expected, Delete):
        assert found == expected
        return
    assert isinstance(found, PlacedItem)
    assert (found.item, found.code) == (expected.item, expected.code)
    np.testing.assert_array_equal(found.content, expected.content)
    np.testing.assert_array_equal(found.behavior, expected.behavior)


def test_what_is_appended_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "items.sqlite"
    store = ItemStore.open(path)
    assert store.base is None
    store.rebase(BASE, [])
    changes: list[PlacedChange] = [item("a"), Delete("b"), item("c", seed=2)]
    assert store.append(changes) == 3
    store.close()
    store = ItemStore.open(path)
    assert store.base == BASE
    assert store.sequence == 3
    for sequence, (stored, expected) in enumerate(
        zip(store.after(0, 10), changes, strict=True), start=1
    ):
        assert stored.sequence == sequence
        assert_same(stored.change, expected)
    store.close()


@settings(max_examples=15, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=5), max_size=8
    ),
    page=st.integers(1, 4),
    pauses=st.integers(0, 40),
)
def test_whoever_reads_on_from_anywhere_comes_to_the_same_end(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[str, bool]]],
    page: int,
    pauses: int,
) -> None:
    store = ItemStore.open(tmp_path_factory.mktemp("store") / "items.sqlite")
    expected: dict[str, str | None] = {}
    early: dict[str, str | None] = {}  # reads a page now and then
    at = 0

    def read_on() -> int:
        stored = store.after(at, page)
        for one in stored:
            change = one.change
            early[change.item_id] = None if isinstance(change, Delete) else change.item.title
        return stored[-1].sequence if stored else at

    for number, batch in enumerate(batches):
        changes: list[PlacedChange] = []
        for item_id, keep in batch:
            title = f"{number}.{len(changes)}"
            changes.append(item(item_id, title) if keep else Delete(item_id))
            expected[item_id] = title if keep else None
        store.append(changes)
        if pauses % (number + 2):
            at = read_on()
    while (then := read_on()) > at:
        at = then
    assert early == expected
    assert at == store.sequence
    rows = [one for stored in store.replay() for one in stored]
    assert len(rows) == len(expected)  # the newest change of each item, and no other
    assert len({one.sequence for one in rows}) == len(rows)
    store.close()


def test_reading_stops_where_it_is_told(store: ItemStore) -> None:
    store.append([item("a"), item("b"), item("c")])
    assert [stored.sequence for stored in store.after(1, 10, up_to=2)] == [2]


def test_a_reader_neither_waits_for_the_writer_nor_sees_half_of_it(store: ItemStore) -> None:
    store.append([item("a")])
    with store._transaction() as connection:
        connection.execute("DELETE FROM changes")
        assert [stored.change.item_id for stored in store.after(0, 10)] == ["a"]


def test_a_store_has_one_process(store: ItemStore) -> None:
    with pytest.raises(SettingsError, match="open in another process"):
        ItemStore.open(store.path)
    store.append([item("a")])  # and that one is undisturbed


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.sqlite"
    path.write_bytes(b"a text file, long enough to be none of SQLite's" * 100)
    with pytest.raises(SettingsError, match="cannot open the store"):
        ItemStore.open(path)
    assert path.read_bytes().startswith(b"a text file")


def test_a_store_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.sqlite"
    store = ItemStore.open(path)
    store.rebase(BASE, [])
    store._writer.execute("UPDATE facts SET value = '9' WHERE name = 'schema'")
    store.close()
    with pytest.raises(SettingsError, match="schema 9"):
        ItemStore.open(path)


VERSION_0_2_0 = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('schema', '1'), ('id', '0f'), ('sequence', '4'), ('name', 'films'),
    ('version', '1'), ('digest', 'digest'), ('encoder', 'encoder');
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY, item_id TEXT NOT NULL UNIQUE,
    item TEXT, content BLOB, behavior BLOB, code_text TEXT, tokens TEXT
);
INSERT INTO changes VALUES
    (2, 'gone', NULL, NULL, NULL, NULL, NULL),
    (5, 'a', '{"title": "A", "text": "", "attributes": {"year": [1990.5]}, "popularity": 0}',
     x'0000803f', x'00000040', '<a_1><b_2>', '[1, 2]');
"""


def test_a_store_that_0_2_0_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "items.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_0_2_0)
    store = ItemStore.open(path)
    assert (store.id, store.base, store.before) == ("0f", BASE, None)
    assert (store.sequence, store.floor, store.rebased) == (5, 0, 0)
    one, two = (np.array([number], dtype=np.float32) for number in (1, 2))
    read = PlacedItem(
        CatalogItem("a", "A", "", {"year": (1990.5,)}, 0), one, two, ItemCode("<a_1><b_2>", (1, 2))
    )
    deleted, added = (stored.change for stored in store.after(0, 10))
    assert_same(deleted, Delete("gone"))
    assert_same(added, read)
    assert store.append([item("b")]) == 6
    store.close()
    assert read_items(path).items.keys() == {"a", "b"}


def test_a_full_disk_loses_nothing(store: ItemStore) -> None:
    store.append([item("a")])
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(ResourceExhausted) as error:
        store.append([item(f"n{i}", "long " * 200) for i in range(100)])
    assert error.value.reason == "STORE_FULL"
    assert error.value.retry_after > 0
    assert (store.sequence, len(store.after(0, 10))) == (1, 1)
    store._writer.execute("PRAGMA max_page_count = 1000000")  # there is room again
    assert store.append([item("b")]) == 2
    assert [stored.change.item_id for stored in store.after(0, 10)] == ["a", "b"]


def test_a_disk_that_cannot_be_written_to_loses_nothing(store: ItemStore) -> None:
    store.append([item("a")])
    store._writer.execute("PRAGMA query_only = 1")
    with pytest.raises(Unavailable) as error:
        store.append([item("b")])
    assert error.value.reason == "STORE_FAILED"
    assert [stored.change.item_id for stored in store.after(0, 10)] == ["a"]


def test_a_rebase_replaces_everything_under_new_sequences(store: ItemStore, tmp_path: Path) -> None:
    store.rebase(BASE, [])
    store.append([item("a"), item("b")])
    store.copy(tmp_path / "copy.sqlite")
    store.rebase(BundleFingerprint("films", "2", "other", "encoder"), [item("b"), Delete("c")])
    assert [(s.sequence, s.change.item_id) for s in store.after(0, 10)] == [(3, "b"), (4, "c")]
    copy = sqlite3.connect(tmp_path / "copy.sqlite")
    assert copy.execute("SELECT item_id FROM changes").fetchall() == [("a",), ("b",)]
    copy.close()


def test_a_rebase_that_leaves_nothing_behind_does_not_begin_to_count_again(tmp_path: Path) -> None:
    store = ItemStore.open(tmp_path / "items.sqlite")
    store.append([item("a"), item("b")])
    store.rebase(BASE, [])
    store.close()
    store = ItemStore.open(store.path)
    assert (store.sequence, store.append([item("c")])) == (2, 3)
    store.close()


def test_a_store_is_the_same_wherever_it_is_copied_to(store: ItemStore, tmp_path: Path) -> None:
    store.rebase(BASE, [item("a")])
    store.copy(tmp_path / "copy.sqlite")
    copy, other = (ItemStore.open(tmp_path / f"{name}.sqlite") for name in ("copy", "other"))
    assert copy.id == store.id != other.id
    copy.close()
    other.close()


def test_a_store_from_before_gets_an_identity_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "items.sqlite"
    store = ItemStore.open(path)
    store.append([item("a")])
    store._writer.execute("DELETE FROM facts WHERE name = 'id'")
    store.close()
    with pytest.raises(SettingsError, match="has no identity yet"):
        read_items(path)
    store = ItemStore.open(path)
    assert read_items(path).id == store.id
    store.close()


# -- read by another process -----------------------------------------------------------------------


def test_items_are_read_while_the_store_is_open(tmp_path: Path) -> None:
    store = ItemStore.open(tmp_path / "items #1?.sqlite")
    store.append([item("a"), item("b"), item("c")])
    store.append([Delete("b"), item("c", "Another Film")])
    found = read_items(store.path)
    assert (found.id, found.sequence) == (store.id, 5)
    assert found.items == {"a": item("a").item, "c": item("c", "Another Film").item}
    store.close()
    assert read_items(store.path) == found


def test_what_is_not_committed_is_not_read(store: ItemStore) -> None:
    store.append([item("a")])
    with store._transaction() as connection:
        store_module._insert(connection, [item("b")], 1)
        assert (read_items(store.path).sequence, *read_items(store.path).items) == (1, "a")


def test_items_are_read_as_of_one_moment(store: ItemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([item("a")])
    last = store_module._last

    def and_then_a_write(connection: sqlite3.Connection) -> int:
        sequence = last(connection)
        store.append([item("b")])
        return sequence

    monkeypatch.setattr(store_module, "_last", and_then_a_write)
    found = read_items(store.path)
    assert (found.sequence, list(found.items)) == (1, ["a"])
    assert store.sequence == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "there is no store"),
        (b"a text file, long enough to be none of SQLite's" * 100, "cannot read the store"),
        (b"", "cannot read the store"),
    ],
    ids=["missing", "text", "empty"],
)
def test_what_is_no_store_is_not_read(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "items.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=complaint):
        read_items(path)
    assert (path.read_bytes() if path.exists() else None) == content


def test_items_of_another_schema_are_not_read(store: ItemStore) -> None:
    store.rebase(BASE, [])
    store._writer.execute("UPDATE facts SET value = '9' WHERE name = 'schema'")
    with pytest.raises(SettingsError, match="schema 9"):
        read_items(store.path)
