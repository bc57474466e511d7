"""However changes are compacted, cut into steps, interrupted and rolled back, catalogs agree."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalog import Catalog, CatalogItem, Delete
from services.generator.catalog.client import Disconnected, OtherCatalog, Step
from services.generator.catalog.coded import CodedCatalog, CodedChange, CodedUpsert
from services.generator.catalog.follower import Follower
from services.generator.decoding.engine import GeneratorEngine
from services.generator.decoding.parts import GeneratorParts
from serving.background import Backoff
from tests.processes import PATIENCE

IDS = [f"i{number}" for number in range(6)]
CODES = [(x, y) for x in (5, 6, 7) for y in (5, 6, 7)]
END = 1_000
"""By how much the sequence is ahead of the last change, once that has been said."""
ALL = 1_000
"""More pieces than there are."""
BASE = {"i0": CODES[0], "i1": CODES[1], "i2": CODES[2]}


def item(item_id: str) -> CatalogItem:
    return CatalogItem(item_id, item_id, item_id, {}, popularity=0)


def base() -> CodedCatalog:
    codes = np.array(list(BASE.values()), np.int32)
    return CodedCatalog.of(Catalog(map(item, BASE)), [str(code) for code in BASE.values()], codes)


@dataclass
class Store:
    """The last change of each item, as the candidate keeps it, and what they come to."""

    sequence: int = 0
    rows: dict[str, tuple[int, CodedChange]] = field(default_factory=dict)
    codes: dict[str, tuple[int, int]] = field(default_factory=lambda: dict(BASE))

    def copy(self) -> "Store":
        return Store(self.sequence, dict(self.rows), dict(self.codes))

    def change(self, item_id: str, code: tuple[int, int] | None) -> None:
        """Gives an item a code, unless another has it, or removes it."""
        if code in [other for name, other in self.codes.items() if name != item_id]:
            return
        self.sequence += 1
        if code is None:
            self.codes.pop(item_id, None)
            change: CodedChange = Delete(item_id)
        else:
            self.codes[item_id] = code
            change = CodedUpsert(item(item_id), str(code), code)
        self.rows[item_id] = (self.sequence, change)

    def after(self, sequence: int) -> list[tuple[int, CodedChange]]:
        return sorted((row for row in self.rows.values() if row[0] > sequence), key=lambda r: r[0])


@dataclass
class Connection:
    """A state of the store, and how much of it gets through in which pieces."""

    store: Store
    piece: int
    pieces: int | None
    """After so many the connection breaks; None for the last one, which holds."""


class ScriptedFeed:
    """Plays connections, one after another."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = list(connections)

    async def steps(self, after: int) -> AsyncGenerator[Step, None]:
        connection = self.connections[0]
        if after > connection.store.sequence:
            raise OtherCatalog("from the future")
        rows, piece = connection.store.after(after), connection.piece
        for count, start in enumerate(range(0, len(rows), piece)):
            if count == connection.pieces:
                break
            some = rows[start : start + piece]
            yield Step([change for _, change in some], some[-1][0])
            await asyncio.sleep(0)
        if connection.pieces is not None:
            self.connections.pop(0)
            raise Disconnected("as the script says")
        yield Step((), connection.store.sequence + END)
        await asyncio.Event().wait()

    async def close(self) -> None: ...


changes = st.lists(
    st.tuples(st.sampled_from(IDS), st.sampled_from([None, *CODES])), min_size=0, max_size=8
)
episodes = st.lists(
    st.tuples(changes, st.integers(1, 3), st.integers(0, 3), st.booleans()), max_size=6
)


@settings(deadline=None)
@given(episodes, changes)
def test_the_catalog_converges_to_the_store(
    script: list[tuple[list[tuple[str, tuple[int, int] | None]], int, int, bool]],
    last: list[tuple[str, tuple[int, int] | None]],
) -> None:
    store, earlier = Store(), Store()
    connections: list[Connection] = []
    for some, piece, pieces, restored in script:
        if restored:
            # A restoration is noticed by what the follower has and the store has not: so it
            # has all of the lost state, and nothing is written before it comes back.
            for lost in connections[-1:]:
                lost.pieces = ALL
            store = earlier.copy()
        else:
            earlier = store.copy()
            for item_id, code in some:
                store.change(item_id, code)
        connections.append(Connection(store.copy(), piece, pieces))
    for item_id, code in [] if script and script[-1][3] else last:
        store.change(item_id, code)
    connections.append(Connection(store.copy(), 2, None))
    engine = GeneratorEngine(cast("GeneratorParts", None), base())
    assert asyncio.run(followed(engine, connections)) == store.codes


async def followed(
    engine: GeneratorEngine, connections: Sequence[Connection]
) -> dict[str, tuple[int, ...]]:
    """The codes of the live items once the last connection has said all."""
    backoff = Backoff(first=0.0, limit=0.0)
    follower = Follower(engine, ScriptedFeed(connections), backoff, quiet=0.005)
    follower.start()
    async with asyncio.timeout(PATIENCE):
        end = connections[-1].store.sequence + END
        while follower.progress.sequence < end or not follower.settled:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await follower.close()
    snapshot = follower.engine.snapshot
    live = np.flatnonzero(snapshot.catalog.live)
    names, codes = snapshot.catalog.ids(live), map(tuple, snapshot.codes[live].tolist())
    assert snapshot.trie.items == len(live)
    return dict(zip(names, codes, strict=True))


async def test_what_is_there_at_once_becomes_one_version() -> None:
    store = Store()
    for item_id, code in zip(IDS, CODES[::-1], strict=False):
        store.change(item_id, code)
    engine = GeneratorEngine(cast("GeneratorParts", None), base())

    class AtOnce(ScriptedFeed):
        async def steps(self, after: int) -> AsyncGenerator[Step, None]:
            for sequence, change in store.after(after):
                yield Step([change], sequence)
            await asyncio.Event().wait()

    follower = Follower(engine, AtOnce([]))
    follower.start()
    async with asyncio.timeout(PATIENCE):
        while follower.progress.sequence < store.sequence:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await follower.close()
    assert follower.engine.snapshot.version == 1
    assert follower.engine.snapshot.catalog.live_count == len(IDS)
