"""The graphs of a model that reads whole items against the model itself and against numpy."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.catalog import Delete
from offline.generator.export.item_parity import beam_search, compare_items
from offline.generator.items.scores import exact_scores
from services.generator.decoding.diagnostics import by_token, read_tokens
from services.generator.decoding.engine import GeneratorEngine, RankingQuery, UserContext
from services.generator.decoding.providers import Compute
from tests.generator.decoding.test_engine import NONE, random_context, wish
from tests.generator.made_up import EXACT_INT8, level_texts, random_levels
from tests.generator.made_up_items import MAX_HISTORY, MadeUpItems, write_made_up_items

SIZES: dict[int, tuple[int, ...]] = {1: (100,), 2: (9, 13), 3: (4, 5, 6)}


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda levels: f"{levels} levels")
def items(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeUpItems:
    root: Path = tmp_path_factory.mktemp("items")
    return write_made_up_items(root, level_texts(random_levels(80, SIZES[request.param])), beams=8)


def contexts(items: MadeUpItems, count: int) -> list[UserContext]:
    """Histories of all lengths, longer than what is read and empty ones too."""
    rng = np.random.default_rng(0)
    some = [random_context(rng, items.items, MAX_HISTORY + 5) for _ in range(count - 2)]
    return [UserContext(None, NONE), *some, UserContext(None, np.arange(30, dtype=np.int32))]


def of_the_model(items: MadeUpItems, asked: list[UserContext]) -> NDArray[np.float32]:
    histories = [context.history for context in asked]
    return exact_scores(items.model, items.engine.words(), histories, MAX_HISTORY)


def test_reranking_gives_what_the_model_gives_every_item(items: MadeUpItems) -> None:
    asked = contexts(items, 16)
    everything = np.arange(items.items, dtype=np.int32)
    ranked = items.engine.rerank([RankingQuery(context, shortlist=everything) for context in asked])
    for context, scores, found in zip(asked, of_the_model(items, asked), ranked, strict=True):
        np.testing.assert_allclose(found.scores, scores[found.items], atol=1e-4)
        np.testing.assert_allclose(scores, items.exact(context), atol=1e-4)


def test_lists_are_those_of_a_beam_search_over_all_scores(items: MadeUpItems) -> None:
    asked = contexts(items, 40)
    parity = compare_items(items.engine, items.model, [wish(context, 8) for context in asked])
    assert parity.identical_lists == 40
    parity.require()


def test_a_beam_search_keeps_so_many_prefixes_of_each_level() -> None:
    codes = np.array([[1, 1], [1, 2], [2, 1], [3, 1], [3, 2], [3, 3]], np.int32)
    chances = np.array([0.05, 0.05, 0.3, 0.2, 0.2, 0.2])
    # Of the first tokens 3 has 0.6, 2 has 0.3 and 1 has 0.1.
    assert beam_search(codes, np.log(chances), 1).tolist() == [3]
    assert beam_search(codes, np.log(chances), 2).tolist() == [2, 3]
    assert beam_search(codes, np.log(chances), 6).tolist() == [2, 3, 4, 5, 0, 1]


def test_all_that_is_read_of_a_history_is_the_newest_but_all_of_it_is_seen(
    items: MadeUpItems,
) -> None:
    long = np.arange(40, dtype=np.int32)
    for history in (long, long[-MAX_HISTORY:]):
        context = UserContext(None, history)
        assert len(items.engine.render(context)) == 1 + MAX_HISTORY
        (found,) = items.engine.generate([wish(context, items.items)])
        np.testing.assert_allclose(found.scores, items.exact(context)[found.items], atol=1e-4)


def test_tokens_add_up_to_the_score_of_the_item(items: MadeUpItems) -> None:
    context = contexts(items, 3)[1]
    shortlist = np.array([5, 0, 60, 5], np.int32)
    engine = items.engine
    job = engine.prepare(RankingQuery(context, shortlist=shortlist))
    (answer,) = engine.run([by_token(job)])
    by_level = read_tokens(answer, engine.parts.section.code_length)
    exact = items.exact(context)
    np.testing.assert_allclose(by_level.sum(axis=1), exact[shortlist], atol=1e-4)
    # The probability of a first token is that of all items below it.
    codes = engine.snapshot.codes
    for item, first in zip(shortlist.tolist(), by_level[:, 0].tolist(), strict=True):
        below = codes[:, 0] == codes[item, 0]
        assert first == pytest.approx(np.logaddexp.reduce(exact[below].astype(float)), abs=1e-4)


def test_a_known_user_without_history_is_named_and_others_are_not(items: MadeUpItems) -> None:
    engine = items.engine

    def prompt(user: int | None, *history: int) -> list[str]:
        context = UserContext(user, np.array(history, np.int32))
        ids = engine.render(context)
        known = [token for token in ids if token < engine.parts.section.vocabulary]
        assert [token - engine.parts.section.vocabulary for token in ids[len(known) :]] == [
            *history
        ]
        return [engine.parts.tokenizer.id_to_token(token) or "" for token in known]

    assert prompt(1) == ["recommend", "an", "item", "to", "<user_1>"]
    assert prompt(2)[-1] == "<user_0>", "users share two tokens"
    assert prompt(None) == ["after"]
    assert prompt(1, 7, 8) == ["after"]
    for user in (None, 1):
        context = UserContext(user, NONE)
        (found,) = engine.generate([wish(context, items.items)])
        np.testing.assert_allclose(found.scores, items.exact(context)[found.items], atol=1e-4)


def test_without_items_there_is_nothing_to_find(items: MadeUpItems) -> None:
    first = items.engine.snapshot
    engine = items.engine.over(first.apply(map(Delete, first.catalog.ids(range(items.items)))))
    for context in contexts(items, 4):
        (nothing,) = engine.generate([wish(context, 10)])
        assert len(nothing.items) == len(nothing.scores) == 0


@EXACT_INT8
def test_int8_finds_mostly_what_fp32_does(tmp_path: Path) -> None:
    texts = level_texts(random_levels(300, (12, 30)))
    precise = write_made_up_items(tmp_path, texts, precisions=("fp32", "int8"))
    rounded = GeneratorEngine.load(precise.bundle, Compute(threads=1), "int8")
    asked = [wish(context, 20) for context in contexts(precise, 30)]
    pairs = zip(precise.engine.generate(asked), rounded.generate(asked), strict=True)
    common = [len(set(a.items.tolist()) & set(b.items.tolist())) / 20 for a, b in pairs]
    assert np.mean(common) > 0.85
    everything = np.arange(300, dtype=np.int32)
    for query in asked[:5]:
        (found,) = rounded.rerank([RankingQuery(query.context, shortlist=everything)])
        error = np.abs(found.scores - precise.exact(query.context)[found.items]).max()
        assert 0 < error < 0.5
