"""Files of running processes are copied as the documents say, and restored into fresh ones."""

import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import tandem
from bench.lib.stack import Process
from bench.operate.swaps import all_three
from tandem import CatalogClient, Client, Item, event, filters
from tandem.requests import StrategyName
from tests.pipeline.whole_bundle import write_whole_bundle
from tests.processes import PATIENCE, REPOSITORY, wait_until

USERS = ("kim", "lee", "max")
GONE = "ann"
"""A user of the bundle, who is deleted."""
ITEMS = ("n0", "n1", "n2", "n3")
STRATEGIES: tuple[StrategyName, ...] = ("embedding", "generate")
FILES = ("items.db", "histories.db")
WRITES = 25
"""Of each kind, before the backup and at least as many after it began."""


def backup(path: Path, copy: Path) -> None:
    """Runs the command of docs/operations.md."""
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    (statement,) = set(re.findall(r"`sqlite3 FILE \"(.+?)\"`", text))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement.replace("COPY", str(copy)))


@dataclass
class Written:
    """What was acknowledged so far."""

    events: list[tuple[str, str]] = field(default_factory=list)
    """User and identifier."""
    titles: dict[str, int] = field(default_factory=dict)
    """Of items: which write it was."""
    writes: int = 0


@contextmanager
def clients(processes: dict[str, Process]) -> Iterator[tuple[Client, CatalogClient]]:
    with (
        Client(processes["gateway"].address, timeout=PATIENCE) as client,
        CatalogClient(processes["candidate"].address, timeout=PATIENCE) as catalog,
    ):
        yield client, catalog


def record(client: Client, written: Written, ended: threading.Event) -> None:
    while not ended.is_set():
        made = event(USERS[len(written.events) % len(USERS)], "i1")
        client.record_events([made])
        written.events.append((made.user_id, made.event_id))


def put(catalog: CatalogClient, item_id: str, title: int) -> None:
    catalog.upsert_items([Item(item_id, "Film a query", str(title), {"genre": "Restored"})])


def upsert(catalog: CatalogClient, written: Written, ended: threading.Event) -> None:
    while not ended.is_set():
        item_id = ITEMS[written.writes % len(ITEMS)]
        put(catalog, item_id, written.writes)
        written.titles[item_id] = written.writes
        written.writes += 1


def wait_for_writes(written: Written, more: int) -> None:
    events, writes = len(written.events) + more, written.writes + more
    wait_until(lambda: len(written.events) >= events and written.writes >= writes, "writes")


def write_and_back_up(
    processes: dict[str, Process], directory: Path, copies: Path
) -> tuple[Written, Written]:
    """Copies both files while both are written to.

    Returns:
        What was acknowledged before the copies were begun, and in all.
    """
    ended, written = threading.Event(), Written()
    with clients(processes) as (client, catalog), ThreadPoolExecutor() as threads:
        client.record_events([event(GONE, "i1")])
        client.delete_user(GONE)
        writers = [
            threads.submit(record, client, written, ended),
            threads.submit(upsert, catalog, written, ended),
        ]
        try:
            wait_for_writes(written, WRITES)
            before = Written(list(written.events), dict(written.titles), written.writes)
            for name in FILES:
                backup(directory / name, copies / name)
            wait_for_writes(written, WRITES)
        finally:
            ended.set()
        for writer in writers:
            writer.result()
    shutil.copy(directory / "histories.db.key", copies)
    return before, written


@pytest.mark.slow
def test_copies_made_while_writing_have_all_that_was_acknowledged(tmp_path: Path) -> None:
    bundle, served, copies = write_whole_bundle(tmp_path), tmp_path / "served", tmp_path / "copies"
    served.mkdir()
    copies.mkdir()
    with all_three(bundle, served, served / "histories.db") as processes:
        before, written = write_and_back_up(processes, served, copies)
    with (
        all_three(bundle, copies, copies / "histories.db") as processes,
        clients(processes) as (client, catalog),
    ):
        check_histories(client, before, written)
        check_items(catalog, before, written)
        put(catalog, "later", 0)  # and they go on from there
        client.record_events([event(GONE, "i2")])
        for strategy in STRATEGIES:
            wait_until(
                lambda strategy=strategy: recommended(client, strategy) == {*ITEMS, "later"},  # type: ignore[misc]
                f"{strategy} to recommend what was restored",
            )
        assert [each.item_id for each in client.get_history(GONE).events] == ["i2"]


def check_histories(client: Client, before: Written, written: Written) -> None:
    for user in USERS:
        found = {each.event_id for each in client.get_history(user, page_size=1_000).events}
        assert found >= {event_id for owner, event_id in before.events if owner == user}
        assert found <= {event_id for owner, event_id in written.events if owner == user}
    with pytest.raises(tandem.NotFound):
        client.get_history(GONE)


def check_items(catalog: CatalogClient, before: Written, written: Written) -> None:
    titles = {item.item_id: int(item.title) for item in catalog.get_items(ITEMS).items}
    assert titles.keys() == before.titles.keys()
    assert all(before.titles[each] <= titles[each] <= written.titles[each] for each in titles)


def recommended(client: Client, strategy: StrategyName) -> set[str]:
    answer = client.recommend(
        history=["i1"], strategy=strategy, filter=filters.equals("genre", "Restored")
    )
    return {item.item_id for item in answer.recommendations}
