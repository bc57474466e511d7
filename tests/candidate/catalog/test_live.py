"""The single writer: what becomes visible when, and what callers get who write at the same time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.catalog import Delete
from core.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, TandemError
from services.candidate.catalog import live as live_module
from services.candidate.catalog.embedding import BATCH, TextBatches
from services.candidate.catalog.live import LiveCatalog
from services.candidate.catalog.transaction import EditResult, NewItem, replayed
from services.candidate.changes import ChangeSet
from services.candidate.index.flat import Vector
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.engine import CandidateEngine
from tests.candidate.coded import make_placer, make_writer
from tests.candidate.made_up import LetterTextEncoder, make_world, positions, unit
from tests.candidate.small_bundle import VALUES

WORLD = make_world()


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveCatalog]:
    live = LiveCatalog(WORLD.engine, make_writer(tmp_path / "items.sqlite"))
    yield live
    await live.close()


def new(item_id: str, text: str = "new film", vector: Vector | None = None, **more: Any) -> NewItem:
    return NewItem(item_id, more.pop("title", "New"), text, more, vector)


def near(seed: int) -> Vector:
    vector: Vector = unit(np.random.default_rng(seed).normal(size=(1, 6)).astype(np.float32))[0]
    return vector


def ids(engine: CandidateEngine, items: Any) -> list[str]:
    return engine.catalog.ids(items.tolist())


async def test_what_is_written_is_found_in_both_spaces_and_by_its_attributes(
    live: LiveCatalog,
) -> None:
    vector = near(1)
    written = await live.write([new("n", vector=vector, genre=("Noir",)), new("m", "a text")])
    assert written == EditResult(2, ())
    engine = live.engine
    assert engine.sequence == 2
    assert ids(engine, engine.similar_to_vector(vector, 1).items) == ["n"]
    assert ids(engine, engine.similar_to_text("a text", 1).items) == ["m"]
    behavior = engine.space(SpaceName.BEHAVIOR).take(engine.catalog.lookup(["n"])[0])[0]
    found = engine.similar_to_vector(behavior, 1, SpaceName.BEHAVIOR)
    assert ids(engine, found.items) == ["n"]
    assert ids(engine, np.flatnonzero(engine.catalog.having("genre", ["Noir"]))) == ["n"]


async def test_a_version_that_was_taken_stays_as_it_was(live: LiveCatalog) -> None:
    before = live.engine
    await live.write([new("n", vector=near(1)), Delete("i3")])
    assert before.sequence == 0
    assert before.similar_to_items(positions(3), 29).items.size == 29
    assert "n" not in ids(before, before.similar_to_vector(near(1), 30).items)
    assert "i3" not in ids(live.engine, live.engine.similar_to_vector(near(1), 40).items)


async def test_what_says_nothing_new_changes_nothing(live: LiveCatalog) -> None:
    vector = near(1)
    await live.write([new("n", vector=vector, year=(1999.0,))])
    version = live.engine
    assert await live.write([new("n", year=(1999.0,))]) == EditResult(1, ("n",))
    assert await live.write([new("n", vector=vector, year=(1999.0,))]) == EditResult(1, ("n",))
    assert await live.write([Delete("nowhere")]) == EditResult(1, ("nowhere",))
    assert live.engine is version


async def test_an_item_with_other_attributes_keeps_its_vectors_and_its_code(
    live: LiveCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live.write([new("n", vector=near(1))])
    code, popularity = live.engine.codes[0], int(WORLD.popularity[4])
    text = live.engine.catalog.items[4].text

    def never(*_: Any) -> Any:
        raise AssertionError("embeds a text that has not changed")

    monkeypatch.setattr(LetterTextEncoder, "encode_batch", never)
    assert await live.write([new("n", year=(2000.0,)), new("i4", text)]) == EditResult(3, ())
    engine = live.engine
    assert (engine.codes[0], len(engine.codes), len(engine.catalog)) == (code, 1, 31)
    there = engine.catalog.lookup(["n", "i4"])[0]
    content = engine.space(SpaceName.CONTENT).take(there)
    np.testing.assert_array_equal(content, [near(1), WORLD.content[4]])
    assert engine.catalog.items[int(there[1])].popularity == popularity


async def test_people_go_on_to_and_from_an_item_that_was_edited(live: LiveCatalog) -> None:
    histories = [["i1", "i4", "i7"], ["i4"], ["i9", "i2"]]

    def found(engine: CandidateEngine, history: list[str]) -> dict[str, float]:
        shortlist = engine.search(engine.catalog.lookup(history)[0], 30, include_seen=True)
        return dict(zip(ids(engine, shortlist.items), shortlist.scores.tolist(), strict=True))

    engine = live.engine
    before = [found(engine, history) for history in histories]
    for sequence, edited in enumerate((["i4", "i9"], ["i4", "i1"]), start=1):  # i4 moves twice
        items = [make_placer().placed(WORLD.engine, item_id) for item_id in edited]
        moved = [replace(item, item=replace(item.item, title="New")) for item in items if item]
        engine = engine.applied(ChangeSet(moved, sequence))
    assert engine.catalog.lookup(["i4", "i9", "i1"])[0].tolist() == [32, 31, 33]
    for history, expected in zip(histories, before, strict=True):
        assert found(engine, history) == pytest.approx(expected)


async def test_attributes_may_change_for_ever_at_no_cost(live: LiveCatalog) -> None:
    await live.write([new("n", vector=near(1))])
    before = live.engine
    text = before.catalog.items[4].text
    for year in range(300):
        await live.write([new("n", year=(float(year),)), new("i4", text, year=(float(year),))])
    engine = live.engine
    assert engine.sequence == 601
    assert len(engine.catalog) == len(engine.space(SpaceName.CONTENT)) == 31
    for name in SpaceName:
        assert engine.space(name) is before.space(name)
    assert ids(engine, np.flatnonzero(engine.catalog.within("year", 299.0, 299.0))) == ["i4", "n"]


async def test_an_item_keeps_its_place_after_a_restart(live: LiveCatalog, tmp_path: Path) -> None:
    text = live.engine.catalog.items[4].text
    await live.write([new("n", vector=near(1)), new("i4", text, year=(1.0,)), new("i5", "other")])
    await live.write([new("n", year=(2.0,))])
    path = tmp_path / "copy.sqlite"
    live._writer.store.copy(path)  # type: ignore[union-attr]
    writer = make_writer(path)
    engine = replayed(WORLD.engine, writer._placer, writer.store.replay())
    writer.store.close()
    assert engine.catalog.lookup(["i4"])[0].tolist() == [4]
    assert len(engine.catalog) == 32
    for item_id in ("n", "i4", "i5"):
        (here,), (there,) = (e.catalog.lookup([item_id])[0] for e in (engine, live.engine))
        assert engine.catalog.items[here] == live.engine.catalog.items[there]
        (own, other) = (writer._placer.placed(e, item_id) for e in (engine, live.engine))
        assert own is not None and other is not None  # noqa: PT018
        assert own.code == other.code
        np.testing.assert_array_equal(own.behavior, other.behavior)


async def test_an_item_with_another_text_moves(live: LiveCatalog) -> None:
    await live.write([new("n", "aaaa"), new("m", "bbbb")])
    await live.write([new("n", "bbbb")])
    assert set(ids(live.engine, live.engine.similar_to_text("bbbb", 2).items)) == {"n", "m"}


async def test_a_restart_replays_what_was_written(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "items.sqlite")
    live = LiveCatalog(WORLD.engine, writer)
    await live.write([new("n", vector=near(1)), new("m", vector=near(2)), Delete("i5")])
    await live.write([new("i6", "another text"), Delete("m")])
    before = live.engine
    await live.close()
    writer = make_writer(tmp_path / "items.sqlite")
    after = replayed(WORLD.engine, writer._placer, writer.store.replay())
    assert after.sequence == before.sequence == 5
    query = near(7)
    for space in (SpaceName.CONTENT,):
        found, expected = (e.similar_to_vector(query, 40, space) for e in (after, before))
        assert ids(after, found.items) == ids(before, expected.items)
        np.testing.assert_array_equal(found.scores, expected.scores)
    # The codes in use are those in use before: a new item gets the same from both.
    live = LiveCatalog(after, writer)
    await live.write([new("k", vector=near(1))])
    assert len({code.tokens for code in live.engine.codes}) == len(live.engine.codes)
    await live.close()


class HeldStore:
    """A catalog's store that writes when it is let to, and counts what it writes at once."""

    def __init__(self, live: LiveCatalog) -> None:
        store = live._writer.store  # type: ignore[union-attr]
        self.transactions: list[int] = []
        self.go = threading.Event()
        self._busy = threading.Event()
        self._append = store.append
        store.append = self._held  # type: ignore[method-assign]

    def _held(self, changes: Any) -> int:
        self.transactions.append(len(changes))
        self._busy.set()
        assert self.go.wait(30)
        return self._append(changes)

    async def until_busy(self) -> None:
        assert await asyncio.to_thread(self._busy.wait, 30)


async def test_callers_who_write_at_the_same_time_share_transactions(live: LiveCatalog) -> None:
    store = HeldStore(live)
    calls = [asyncio.create_task(live.write([new("n0", vector=near(0))]))]
    await store.until_busy()
    calls += [asyncio.create_task(live.write([new(f"n{i}", vector=near(i))])) for i in range(1, 50)]
    await asyncio.sleep(0)  # let them queue
    store.go.set()
    written = await asyncio.gather(*calls)
    assert store.transactions == [1, 49]
    assert max(w.sequence for w in written) == live.engine.sequence == 50
    assert len(live.engine.catalog.lookup(f"n{i}" for i in range(50))[0]) == 50


async def test_a_call_that_cannot_be_made_fails_alone_and_whole(live: LiveCatalog) -> None:
    free = VALUES**2 - 30
    await live.write([new(f"n{i}", vector=near(i)) for i in range(free - 2)])
    good, bad, late = await asyncio.gather(
        live.write([new("one", vector=near(1))]),
        live.write([new("two", vector=near(2)), new("three", vector=near(3))]),
        live.write([new("four", vector=near(4))]),
        return_exceptions=True,
    )
    assert isinstance(bad, FailedPrecondition)
    assert bad.reason == "NO_FREE_CODE"
    assert isinstance(good, EditResult)
    assert isinstance(late, EditResult)
    known = live.engine.catalog.lookup(["one", "two", "three", "four"])[1]
    assert known == ["two", "three"]
    await live.write([Delete("one")])
    await live.write([new("two", vector=near(2))])


async def test_a_store_that_fails_leaves_everything_as_it_was(live: LiveCatalog) -> None:
    await live.write([new("n", vector=near(1))])
    before, store = live.engine, live._writer.store  # type: ignore[union-attr]
    store._writer.execute("PRAGMA query_only = 1")
    with pytest.raises(TandemError) as error:
        await live.write([new("m", vector=near(2)), Delete("n")])
    assert error.value.reason == "STORE_FAILED"
    assert live.engine is before
    store._writer.execute("PRAGMA query_only = 0")
    await live.write([new("m", vector=near(2)), Delete("n")])
    assert live.engine.catalog.lookup(["n", "m"])[1] == ["n"]
    assert len({code.tokens for code in live.engine.codes}) == 2


async def test_without_a_store_nothing_is_written() -> None:
    live = LiveCatalog(WORLD.engine)
    with pytest.raises(FailedPrecondition) as error:
        await live.write([new("n", vector=near(1))])
    assert error.value.reason == "READ_ONLY"
    await live.close()


async def test_what_waits_is_bounded(tmp_path: Path) -> None:
    live = LiveCatalog(WORLD.engine, make_writer(tmp_path / "items.sqlite"), max_waiting=3)
    store = HeldStore(live)
    first = asyncio.create_task(live.write([new("a", vector=near(1))]))
    await store.until_busy()
    second = asyncio.create_task(live.write([new("b", vector=near(2)), Delete("i3")]))
    await asyncio.sleep(0)  # let it queue
    with pytest.raises(ResourceExhausted) as error:
        await live.write([new("c", vector=near(3)), new("d", vector=near(4))])
    assert error.value.reason == "WRITE_QUEUE_FULL"
    assert error.value.retry_after > 0
    store.go.set()
    await asyncio.gather(first, second)
    await live.write([new("c", vector=near(3)), new("d", vector=near(4))])
    await live.close()


async def test_a_caller_who_leaves_before_its_turn_changes_nothing(live: LiveCatalog) -> None:
    store = HeldStore(live)
    first = asyncio.create_task(live.write([new("a", vector=near(1))]))
    await store.until_busy()
    second = asyncio.create_task(live.write([new("b", vector=near(2))]))
    await asyncio.sleep(0)  # let it queue
    second.cancel()
    await asyncio.wait({second})
    store.go.set()
    await first
    await live.write([new("c", vector=near(3))])
    assert live.engine.catalog.lookup(["a", "b", "c"])[1] == ["b"]


async def test_followers_get_what_was_and_then_what_comes(live: LiveCatalog) -> None:
    await live.write([new("a", vector=near(1)), Delete("i3")])
    async with aclosing(live.follow(0)) as steps, aclosing(live.follow(2)) as late:
        step = await anext(steps)
        assert [stored.change.item_id for stored in step.changes] == ["a", "i3"]
        assert step.sequence == 2
        assert (await anext(late)).changes == ()
        coming = [asyncio.create_task(anext(stream)) for stream in (steps, late)]
        await live.write([Delete("a")])
        for task in coming:
            step = await task
            assert [stored.change for stored in step.changes] == [Delete("a")]
            assert step.sequence == 3


async def test_following_goes_in_pages(live: LiveCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "PAGE", 7)
    await live.write([new(f"n{i}", vector=near(i)) for i in range(20)])
    found: list[str] = []
    async with aclosing(live.follow(0)) as steps:
        async for step in steps:
            assert len(step.changes) <= 7
            found += [stored.change.item_id for stored in step.changes]
            if step.sequence == 20:
                break
    assert found == [f"n{i}" for i in range(20)]


async def test_a_follower_hears_that_nothing_happens(
    live: LiveCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "HEARTBEAT_SECONDS", 0.01)
    async with aclosing(live.follow(0)) as steps:
        for _ in range(3):
            step = await anext(steps)
            assert (step.changes, step.sequence) == ((), 0)


@pytest.mark.parametrize("after", [1, -1, 2**62])
async def test_a_sequence_that_is_not_reached_is_another_catalogs(
    live: LiveCatalog, after: int
) -> None:
    with pytest.raises(InvalidArgument) as error:
        await anext(live.follow(after))
    assert error.value.reason == "UNKNOWN_SEQUENCE"


class Encoder:
    """Embeds when it is let, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.let = threading.Event()
        self.started = threading.Event()

    def __call__(self, texts: Any) -> Vector:
        self.batches.append(list(texts))
        self.started.set()
        assert self.let.wait(10)
        return np.array([[float(text)] for text in texts], np.float32)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
async def texts(encoder: Encoder) -> AsyncIterator[Callable[..., Any]]:
    batches = TextBatches(encoder, 10_000)
    yield batches.embed
    encoder.let.set()
    await batches.close()


async def test_a_text_does_not_wait_for_the_thousand_of_another(
    encoder: Encoder, texts: Callable[..., Any]
) -> None:
    many = asyncio.create_task(texts([str(i) for i in range(1_000)]))
    await asyncio.to_thread(encoder.started.wait)
    one = asyncio.create_task(texts(["-1"]))
    await asyncio.sleep(0)  # let it queue
    encoder.let.set()
    assert (await one).tolist() == [[-1]]
    assert not many.done()
    assert (await many)[:, 0].tolist() == list(range(1_000))
    assert "-1" in encoder.batches[1]
    assert max(map(len, encoder.batches)) == BATCH


async def test_callers_who_left_are_not_embedded(
    encoder: Encoder, texts: Callable[..., Any]
) -> None:
    first = asyncio.create_task(texts(["1"]))
    await asyncio.to_thread(encoder.started.wait)
    gone = asyncio.create_task(texts(["2"] * 100))
    await asyncio.sleep(0)  # let it queue
    gone.cancel()
    await asyncio.wait({gone})
    encoder.let.set()
    await first
    await texts(["3"])
    assert encoder.batches == [["1"], ["3"]]


async def test_a_text_that_cannot_be_embedded_fails_its_callers_only() -> None:
    def embed(texts: Any) -> Vector:
        if "bad" in texts:
            raise ValueError("bad")
        return np.zeros((len(texts), 1), np.float32)

    batches = TextBatches(embed, 10_000)
    with pytest.raises(ValueError, match="bad"):
        await batches.embed(["bad"])
    assert len(await batches.embed(["good"])) == 1
    await batches.close()
