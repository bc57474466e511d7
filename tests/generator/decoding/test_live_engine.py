"""The exported graphs over a catalog that changes: no new export, and each job its own version."""

from pathlib import Path

import numpy as np
import pytest

from core.catalog import CatalogItem, Delete
from services.generator.catalog.coded import CodedCatalog, CodedUpsert
from services.generator.decoding.engine import Generation, Ranked, RankingQuery, UserContext
from tests.generator.made_up import Backbone, MadeUp, level_texts, random_levels, write_made_up

NOTHING = np.empty(0, dtype=np.int32)
EVERYTHING = RankingQuery(UserContext(None, NOTHING), Generation(100, None, NOTHING))

SAME_LENGTH = level_texts(random_levels(60, (6, 6, 6)))
OWN_LENGTHS = [f"<a_{i}>" for i in range(5)] + [
    f"<a_{i}><b_{j}>" for i in range(5) for j in range(5)
]


@pytest.fixture(params=[SAME_LENGTH, OWN_LENGTHS], ids=["same length", "own lengths"])
def subject(request: pytest.FixtureRequest, tmp_path: Path, backbone: Backbone) -> MadeUp:
    return write_made_up(tmp_path, request.param, backbone=backbone)


def handed_on(snapshot: CodedCatalog) -> CodedCatalog:
    """Items 3 and 4 are gone, and a new one has the code that was item 3's."""
    new = CatalogItem("new", "New", "new", {}, popularity=0)
    code = CodedUpsert(new, snapshot.code_texts[3], snapshot.codes[3].tolist())
    return snapshot.apply([Delete("i3"), Delete("i4"), code])


def test_a_new_item_is_generated_with_its_code_and_a_removed_one_never(subject: MadeUp) -> None:
    engine, new = subject.engine, subject.items
    (before,) = engine.generate([EVERYTHING])
    engine = engine.over(handed_on(engine.snapshot))
    (after,) = engine.generate([EVERYTHING])
    assert set(after.items.tolist()) == {*range(new), new} - {3, 4}
    # The model knows codes only: the new item takes the score of the one whose code it has.
    renamed = {3: new, **{i: i for i in range(new) if i != 3}}
    scores = dict(zip(after.items.tolist(), after.scores.tolist(), strict=True))
    for item, score in zip(before.items.tolist(), before.scores.tolist(), strict=True):
        if item != 4:
            assert scores[renamed[item]] == pytest.approx(score, abs=1e-4)
    (ranked,) = engine.rerank([RankingQuery(EVERYTHING.context, shortlist=np.sort(after.items))])
    np.testing.assert_allclose(ranked.scores, after.scores, atol=1e-4)


def test_a_job_is_answered_from_the_version_that_it_was_prepared_with(subject: MadeUp) -> None:
    engine, items = subject.engine, subject.items
    job = engine.prepare(EVERYTHING)
    (answer,) = engine.over(handed_on(engine.snapshot)).run([job])
    assert isinstance(answer.generated, Ranked)
    assert sorted(answer.generated.items.tolist()) == list(range(items))


def test_a_catalog_without_items_gives_an_empty_list(subject: MadeUp) -> None:
    first = subject.engine.snapshot
    engine = subject.engine.over(first.apply(map(Delete, first.catalog.ids(range(subject.items)))))
    (nothing,) = engine.generate([EVERYTHING])
    assert len(nothing.items) == len(nothing.scores) == 0
