"""What a build is made from, with the items of a live catalog among them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from core.bundle import sha256
from core.catalog import Delete
from core.manifest import StoreSection
from gateway.history import Event, Retention
from gateway.history.sqlite import SqliteHistoryStore
from gateway.history.tombstones import DeletedUsers, UserHash
from offline.build.source import (
    Filterable,
    LogsSource,
    MovieLensSource,
    WithoutDeleted,
    WithStore,
)
from offline.dataset import DataError, Dataset, DataWarning, LogsConfig
from services.candidate.catalog.store import read_items
from services.candidate.changes import PlacedChange
from tests.cli.command import run
from tests.pipeline.made_up_store import append, put


def with_store(source: Filterable, path: Path, *batches: Sequence[PlacedChange]) -> WithStore:
    """The source with a store that had these changes appended to what it has."""
    append(path, *batches)
    return WithStore(source, read_items(path))


@pytest.fixture
def logs(tmp_path: Path) -> LogsSource:
    """Three customers bought a and b, and two n and one m, which the item table does not list."""
    rows = [f"{user},{item},{time}" for user in "123" for time, item in enumerate("ab")]
    rows += ["1,n,7", "2,n,8", "3,m,9"]
    interactions, items = tmp_path / "log.csv", tmp_path / "items.csv"
    interactions.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    items.write_text("item_id,text,color\na,First,red\nb,Second,blue\n")
    config = LogsConfig(interactions, items, attribute_columns=("color",), min_core=2)
    return LogsSource(config)


def histories(data: Dataset) -> dict[str, list[str]]:
    return {
        user: [data.item_ids[item] for item in data.history(index)]
        for index, user in enumerate(data.user_ids)
    }


def test_an_item_of_the_store_brings_its_interactions_in(logs: LogsSource, tmp_path: Path) -> None:
    with pytest.warns(match="3 interactions left out, of items"):
        assert histories(logs.load())["1"] == ["a", "b"]
    source = with_store(logs, tmp_path / "items.db", [put("n", "a novelty", size=(3.5,))])
    with pytest.warns(match="1 interaction left out, of items"):
        data = source.load()
    assert histories(data) == {"1": ["a", "b", "n"], "2": ["a", "b", "n"], "3": ["a", "b"]}
    novelty = data.items[data.item_ids.index("n")]
    assert (novelty.title, novelty.text) == ("a novelty", "a novelty")
    assert novelty.attributes == {"size": (3.5,)}
    data.save(tmp_path / "saved")
    assert Dataset.load(tmp_path / "saved").items == data.items


def test_an_item_with_too_few_interactions_stays_out(logs: LogsSource, tmp_path: Path) -> None:
    items = [put("n"), put("m"), put("never bought")]
    with pytest.warns(match="1 interaction left out, of users or items with fewer than 2"):
        data = with_store(logs, tmp_path / "items.db", items).load()
    assert data.item_ids == ("a", "b", "n")


def test_the_newest_state_of_an_item_replaces_that_of_the_table(
    logs: LogsSource, tmp_path: Path
) -> None:
    first, last = put("a", "second edition", color=("green",)), put("a", "third edition")
    with pytest.warns(match="1 interaction left out, of items"):
        data = with_store(logs, tmp_path / "items.db", [first], [last, put("n")]).load()
    assert [item.text for item in data.items] == ["third edition", "Second", "new"]
    assert data.items[0].attributes == {}


def test_what_is_deleted_stays_in_histories(logs: LogsSource, tmp_path: Path) -> None:
    deletes = [Delete("b"), Delete("n")]
    source = with_store(logs, tmp_path / "items.db", [put("n")], deletes)
    with pytest.warns(match="3 interactions left out, of items"):  # n is nowhere described any more
        data = source.load()
    assert data.item_ids == ("a", "b")


def test_movielens_takes_items_in_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    ratings = [f"{user}::{movie}::4::{movie}" for user in range(5) for movie in range(1, 7)]
    (folder / "ratings.dat").write_text("\n".join(ratings) + "\n")
    movies = [f"{movie}::Film {movie} (1999)::War" for movie in range(1, 7)]
    (folder / "movies.dat").write_text("\n".join(movies) + "\n")
    monkeypatch.setattr("offline.build.source.fetch", lambda *_: folder)
    movielens = MovieLensSource("ml-1m", tmp_path)
    left_out = WithoutDeleted(movielens, deleted("0"))
    source = with_store(movielens, tmp_path / "items.db", [put("2", "another film"), put("9")])
    data = source.load()
    assert data.item_ids == tuple("123456")
    assert [item.title for item in data.items[:2]] == ["Film 1 (1999)", "another film"]
    assert movielens.facts() == {"movielens": "ml-1m"}
    # Of five who saw each, four are too few.
    with pytest.raises(DataError):
        left_out.load()
    assert source.facts().keys() == {"movielens", "store"}


def test_facts_are_those_of_the_items_and_nothing_else(logs: LogsSource, tmp_path: Path) -> None:
    path = tmp_path / "items.db"
    alone = logs.facts()
    checksums = {name: sha256(getattr(logs.config, name)) for name in ("interactions", "items")}
    assert alone == {**asdict(logs.config), **checksums}
    only_deletes = with_store(logs, path, [Delete("b")])
    assert only_deletes.facts() == alone
    added = with_store(logs, path, [put("n"), put("m", color=("red", "blue"))])
    assert added.facts().keys() - alone.keys() == {"store"}
    # In another order, with other things deleted and at another sequence: the same items.
    again = with_store(logs, path, [Delete("a"), put("n", "other")], [put("n")])
    assert (added.facts(), added.store) != (alone, again.store)
    assert again.facts() == added.facts()
    edits = [put("n", "other"), put("n", color=("red",)), put("n", color=("blue",)), put("o")]
    facts = [with_store(logs, path, [edit]).facts()["store"] for edit in edits]
    assert len({added.facts()["store"], *facts}) == 1 + len(edits)


def test_a_source_says_which_store_it_has_and_how_far(logs: LogsSource, tmp_path: Path) -> None:
    source = with_store(logs, tmp_path / "items.db", [put("n"), Delete("b")])
    assert source.store == StoreSection(id=source.snapshot.id, sequence=2)
    assert (source.name, logs.store) == (logs.name, None)


def deleted(*user_ids: str) -> DeletedUsers:
    users = UserHash(b"a key of deleted users for tests")
    return DeletedUsers(frozenset(map(users.of, user_ids)), users)


def test_deleted_users_are_left_out(logs: LogsSource, tmp_path: Path) -> None:
    stored = with_store(logs, tmp_path / "items.db", [put("n")])
    source = WithoutDeleted(stored, deleted("2", "nobody"))
    with pytest.warns(DataWarning) as notices:
        data = source.load()
    assert "3 interactions left out, of deleted users" in [str(each.message) for each in notices]
    # With only one user left who bought it, n has too few interactions, as if 2 never was.
    assert histories(data) == {"1": ["a", "b"], "3": ["a", "b"]}
    assert (source.name, source.store) == (stored.name, stored.store)


@pytest.mark.filterwarnings("ignore::offline.dataset.errors.DataWarning")
async def test_a_build_leaves_out_who_was_deleted(logs: LogsSource, tmp_path: Path) -> None:
    path, work = tmp_path / "history.sqlite", tmp_path / "work"
    store = SqliteHistoryStore.open(path, Retention())
    await store.delete("2")
    options = (
        "build", "--interactions", str(logs.config.interactions), "--items",
        str(logs.config.items), "--min-core", "2", "--until", "dataset", "--work", str(work),
        "--deleted-users",
    )  # fmt: skip
    result = run(*options, str(path))  # while it is open
    await store.close()
    assert result.code == 0, result.stderr
    (made,) = work.glob("dataset*/dataset.json")
    assert Dataset.load(made.parent).user_ids == ("1", "3")
    result = run(*options, str(tmp_path / "nowhere"))
    assert (result.code, "cannot read the key" in result.stderr) == (1, True)


@pytest.mark.filterwarnings("ignore::offline.dataset.errors.DataWarning")
async def test_a_build_takes_in_what_a_gateway_recorded(logs: LogsSource, tmp_path: Path) -> None:
    path, out, work = tmp_path / "history.sqlite", tmp_path / "events.parquet", tmp_path / "work"
    kinds = {"a": "click", "b": "purchase", "n": "click"}
    events = [
        Event(f"{kind} {item}", user, item, 10**15 + place, kind, in_history=kind != "impression")
        for user in ("1", "2")
        for place, item in enumerate(kinds)
        for kind in ("impression", kinds[item])
    ]
    store = SqliteHistoryStore.open(path, Retention())
    await store.record(events)
    exported = run("export-events", str(out), "--history", str(path))  # while it is open
    await store.close()
    assert exported.stdout == f"exported 12 events to {out}\n"
    options = (
        "build", "--interactions", str(out), "--items", str(logs.config.items), "--min-core", "2",
        "--until", "dataset", "--work", str(work),
    )  # fmt: skip
    refused = run(*options)
    assert (refused.code, "--event-weights interaction=1" in refused.stderr) == (1, True)
    made = run(*options, "--event-weights", "click=1,purchase=3")
    assert made.code == 0, made.stderr
    (header,) = work.glob("dataset*/dataset.json")
    data = Dataset.load(header.parent)
    assert histories(data) == {"1": ["a", "b"], "2": ["a", "b"]}
    assert data.weights is not None
    assert data.weights.tolist() == [1.0, 3.0, 1.0, 3.0]


def test_data_without_somebody_are_other_data(logs: LogsSource) -> None:
    assert WithoutDeleted(logs, deleted()).facts() == logs.facts()
    facts = [WithoutDeleted(logs, deleted(*each)).facts() for each in ("2", "3", "23", "32")]
    assert facts[2] == facts[3]
    assert len({each["deleted_users"] for each in facts}) == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "tandem: there is no store"), ("not one", "tandem: cannot read the store")],
)
def test_a_store_that_cannot_be_read_ends_a_build(
    logs: LogsSource, tmp_path: Path, content: str | None, complaint: str
) -> None:
    path = tmp_path / "items.db"
    if content is not None:
        path.write_text(content)
    result = run(
        "build", "--interactions", str(logs.config.interactions),
        "--items", str(logs.config.items), "--store", str(path), "--work", str(tmp_path / "work"),
    )  # fmt: skip
    assert (result.code, result.stderr.startswith(complaint)) == (1, True), result.stderr
    assert not (tmp_path / "work").exists()
