"""Versions that are made anew without what was replaced, against versions that keep all of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import catalog as catalog_module
from core.catalog import CatalogItem, Delete
from core.codes import ItemCode
from services.candidate.changes import ChangeSet, PlacedChange, PlacedItem
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import SourceWeights
from tests.candidate.made_up import BEHAVIOR, CONTENT, make_world, unit

WORLD = make_world(weights=SourceWeights(0.9, 0.4, 0.3, 0.2))
IDS = ["i1", "i2", "i3", "i28", "n1", "n2", "n3"]

edits = st.tuples(st.sampled_from(IDS), st.sampled_from(["text", "attributes", "delete"]))
batches = st.lists(st.lists(edits, min_size=1, max_size=4), min_size=1, max_size=12)


def vector(rng: np.random.Generator, dimension: int) -> np.ndarray:
    drawn: np.ndarray = unit(rng.normal(size=(1, dimension)).astype(np.float32))[0]
    return drawn


def change(
    engine: CandidateEngine, rng: np.random.Generator, item_id: str, kind: str
) -> tuple[PlacedChange, bool]:
    """A change, and whether the item stays where it is."""
    if kind == "delete":
        return Delete(item_id), False
    (positions, missing), year = engine.catalog.lookup([item_id]), float(rng.integers(0, 9))
    if missing or kind == "text":
        item = CatalogItem(item_id, "New", "new", {"year": (year,)}, 0)
        code = ItemCode(str(year), (int(year),))
        placed = PlacedItem(item, vector(rng, CONTENT), vector(rng, BEHAVIOR), code)
        return placed, False
    item = replace(engine.catalog.items[int(positions[0])], attributes={"year": (year,)})
    content, behavior = (engine.space(name).take(positions)[0] for name in SpaceName)
    return PlacedItem(item, content, behavior, ItemCode("", ())), True


def seen(engine: CandidateEngine, history: list[str]) -> tuple[list[str], list[float]]:
    """Every item and its score, of which a constant says nothing."""
    known, _ = engine.catalog.lookup(history)
    found = engine.search(known, 40, include_seen=True)
    scores = (found.scores - found.scores.mean()).tolist()
    pairs = sorted(zip(engine.catalog.ids(found.items), scores, strict=True))
    return [item_id for item_id, _ in pairs], [score for _, score in pairs]


def same(one: CandidateEngine, other: CandidateEngine) -> None:
    for history in ([], ["i1", "i7"], ["i2", "i28", "i3"], ["n1"], ["i9", "n2", "i1"]):
        (ids, scores), (expected, exact) = (seen(engine, history) for engine in (one, other))
        assert ids == expected
        assert scores == pytest.approx(exact, abs=1e-5)
    for item_id in IDS:
        (here, _), (there, _) = (engine.catalog.lookup([item_id]) for engine in (one, other))
        assert len(here) == len(there)
        for name in SpaceName:
            np.testing.assert_array_equal(one.space(name).take(here), other.space(name).take(there))
        if len(here) and here[0] >= WORLD.items:
            assert one.codes[int(here[0]) - WORLD.items] == other.codes[int(there[0]) - WORLD.items]


@settings(deadline=None)
@given(batches, st.integers(0, 2**32 - 1))
def test_a_compacted_version_answers_as_one_that_is_not(
    several: list[list[tuple[str, str]]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    compacting = keeping = WORLD.engine
    with pytest.MonkeyPatch.context() as patch:
        for sequence, batch in enumerate(several, start=1):
            last = dict(batch)
            made = {i: change(keeping, rng, i, kind) for i, kind in last.items()}
            staying = frozenset(item_id for item_id, (_, stays) in made.items() if stays)
            changes = ChangeSet([each for each, _ in made.values()], sequence, staying)
            patch.setattr(catalog_module, "MANY_TOMBSTONES", 2**31)
            keeping = keeping.applied(changes)
            patch.setattr(catalog_module, "MANY_TOMBSTONES", 1)
            compacting = compacting.applied(changes)
            same(compacting, keeping)
            # As many tombstones as items, at most, or one.
            tail = compacting.catalog.live[WORLD.items :]
            assert len(tail) <= 2 * max(int(np.count_nonzero(tail)), 1)
            assert len(compacting.space(SpaceName.CONTENT)) == len(compacting.catalog)


def test_texts_may_change_for_ever_in_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MANY_TOMBSTONES", 10)
    rng, engine, longest = np.random.default_rng(0), WORLD.engine, 0
    for sequence in range(1, 400):
        edited, _ = change(engine, rng, IDS[sequence % len(IDS)], "text")
        engine = engine.applied(ChangeSet([edited], sequence))
        longest = max(longest, len(engine.catalog))
        assert len(engine.codes) == len(engine.catalog) - WORLD.items
    assert longest <= WORLD.items + 2 * 10
    index = engine.catalog._version.attributes
    assert sum(map(len, index.columns["year"])) <= longest
