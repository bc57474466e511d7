"""Predicted ratings: the expected value of a softmax, from the graphs to the RPC."""

import copy
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.errors import BundleError
from offline.generator.export.rating_parity import require_equal_ratings
from offline.parity import ParityError
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.graphs import Graphs
from services.generator.decoding.rater import Rater, RatingQuery
from services.generator.decoding.ratings import NOTHING_RATED, RatedItems, RatingParts
from services.generator.prompts import Template
from serving.testing import serving
from tandem import errors
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.generator.calls import ids, make_servicer
from tests.generator.items.item_oracle import Oracle
from tests.generator.made_up import (
    BACKBONES,
    MadeUp,
    level_texts,
    random_levels,
    write_made_up,
)
from tests.generator.made_up_items import MAX_HISTORY, MadeUpItems, write_made_up_items

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

VALUES = (0.5, 2.0, 3.0, 4.0, 5.0)
TEXTS = level_texts(random_levels(40, (7, 9)))


def rated(*pairs: tuple[int, int]) -> RatedItems:
    items, values = zip(*pairs, strict=True)
    return RatedItems(np.array(items, np.int32), np.array(values))


SOME = rated((3, 0), (20, 4), (7, 2), (3, 1))


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda levels: f"{levels} levels")
def items(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeUpItems:
    root = tmp_path_factory.mktemp("items")
    levels: tuple[int, ...] = {1: (100,), 2: (9, 13), 3: (4, 5, 6)}[request.param]
    return write_made_up_items(root, level_texts(random_levels(40, levels)), ratings=VALUES)


@pytest.fixture(scope="module", params=BACKBONES)
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    root = tmp_path_factory.mktemp("tokens")
    return write_made_up(root, TEXTS, backbone=request.param, ratings=VALUES)


def expectation(logits: NDArray[np.float64]) -> float:
    chances = np.exp(logits - np.logaddexp.reduce(logits))
    return float(chances @ VALUES)


def by_hand(made: MadeUpItems, told: RatedItems, item: int) -> float:
    """The expected rating, by numpy alone."""
    oracle = Oracle.of(made.model)
    shared, tokens = oracle.weights["t5.shared.weight"], made.model.rating_tokens.numpy()
    # The oracle reads items: a rating is one whose vector gives the row of its token.
    table = np.concatenate([oracle.table(), shared[tokens] / math.sqrt(shared.shape[1])])
    places = zip(told.items.tolist(), told.values.tolist(), strict=True)
    read = [at for shown, value in places for at in (shown, made.items + value)]
    words = made.engine.parts.tokenizer.encode("rated :").ids
    memory = oracle.states(words, [*read, item], table)
    query = oracle.weights["query.weight"] @ memory[-1] + oracle.weights["query.bias"]
    hidden = oracle.after((), memory)
    return expectation(oracle.weights["rating_vectors"] @ query + shared[tokens] @ hidden)


def predict(made: Any, told: RatedItems, asked: Sequence[int]) -> list[float]:
    rater = Rater.of(made.engine)
    job = rater.prepare(RatingQuery(told, np.array(asked, np.int32)))
    return [float(rating) for rating in rater.run([job])[0]]


@pytest.mark.parametrize("told", [NOTHING_RATED, rated((8, 3)), SOME])
def test_whole_items_are_rated_as_numpy_rates_them(items: MadeUpItems, told: RatedItems) -> None:
    asked = [0, 12, 39, 1]
    expected = [by_hand(items, told, item) for item in asked]
    assert predict(items, told, asked) == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 4) for value in expected}) > 1


@torch.no_grad()
def test_an_export_that_rates_otherwise_is_refused(items: MadeUpItems) -> None:
    assert require_equal_ratings(items.engine, items.model) < 1e-5
    other = copy.deepcopy(items.model)
    assert other.rating_vectors is not None
    other.rating_vectors.add_(0.1 * torch.randn_like(other.rating_vectors))
    with pytest.raises(ParityError, match="other ratings"):
        require_equal_ratings(items.engine, other)


@torch.no_grad()
@pytest.mark.parametrize("told", [NOTHING_RATED, SOME])
def test_tokens_are_rated_as_transformers_rates_them(tokens: MadeUp, told: RatedItems) -> None:
    rater, model = Rater.of(tokens.engine), cast(Any, tokens.model)
    leaves = rater.known.codes[:, 0]
    for item in (0, 12):
        prompt = torch.tensor([rater.render(told, item)])
        if model.config.is_encoder_decoder:
            logits = model(prompt, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits
        else:
            logits = model(prompt).logits
        expected = expectation(logits[0, -1].double().numpy()[leaves])
        assert predict(tokens, told, [item]) == pytest.approx([expected], abs=1e-5)


def test_prompts_of_tokens_show_items_with_their_ratings(tokens: MadeUp) -> None:
    rater = Rater.of(tokens.engine)
    prompt = tokens.engine.parts.tokenizer.decode(rater.render(rated((3, 0), (20, 4)), 7))
    assert f"<rating_0>{TEXTS[20]}<rating_4>{TEXTS[7]}" in prompt.replace(" ", "")


def test_an_item_is_rated_without_its_own_rating(items: MadeUpItems) -> None:
    assert predict(items, SOME, [3]) == predict(items, rated((20, 4), (7, 2)), [3])


def test_the_newest_ratings_that_fit_are_shown(items: MadeUpItems) -> None:
    many = rated(*((item, item % 5) for item in range(30)))
    prompt = Rater.of(items.engine).render(many, 35)
    assert len(prompt) <= 16 + MAX_HISTORY
    told = [token for token in prompt if token >= items.engine.parts.section.vocabulary]
    newest = [token - items.engine.parts.section.vocabulary for token in told]
    assert newest == [*range(31 - len(told), 30), 35]


def test_company_changes_no_rating(items: MadeUpItems) -> None:
    rater = Rater.of(items.engine)
    queries = [(SOME, [1, 2, 30]), (NOTHING_RATED, [9]), (rated((8, 3)), [30, 31])]
    jobs = [rater.prepare(RatingQuery(told, np.array(asked, np.int32))) for told, asked in queries]
    together = rater.run(jobs)
    assert len({job.group for job in jobs}) == 1
    for (told, asked), found in zip(queries, together, strict=True):
        assert found.tolist() == pytest.approx(
            [predict(items, told, [item])[0] for item in asked], abs=1e-5
        )


class _Scored:
    """Graphs whose scores are given."""

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self._scores = scores

    def encode_over(self, prompts: Any, arrays: Any) -> None:
        """Nothing is needed."""

    def rerank(self, _encoded: None, trees: Sequence[object]) -> NDArray[np.float32]:
        return np.tile(self._scores, (len(trees), 1))


def parts_of(values: Sequence[float], codes: int | None = None) -> RatingParts:
    template = Template("rating", "seen", "rated {history} {item}", "{rating}")
    rows = np.arange(len(values) if codes is None else codes, dtype=np.int32)[:, None]
    return RatingParts.of(template, values, rows, None)


@pytest.mark.parametrize(
    ("chances", "expected"),
    [((0.1, 0.2, 0.3, 0.4), 3.0), ((0.0, 0.0, 1.0, 0.0), 3.0), ((0.25, 0.25, 0.25, 0.25), 2.5)],
)
def test_the_prediction_is_the_expected_value(chances: Sequence[float], expected: float) -> None:
    """Whatever the scores add up to: only their differences count."""
    with np.errstate(divide="ignore"):
        scores = (np.log(chances) - 7.0).astype(np.float32)
    graphs, nothing = cast(Graphs, _Scored(scores)), cast(CodedCatalog, None)
    found = parts_of((1.0, 2.0, 3.0, 4.0)).expected(
        graphs, [[1]] * 600, nothing, vocabulary=9, pad=0
    )
    assert found == pytest.approx(np.full(600, expected))


def test_a_rating_is_told_as_the_nearest_value() -> None:
    parts = parts_of((1.0, 2.0, 4.0))
    assert parts.places(np.array([1.0, 1.4, 2.9, 3.1, 4.0])).tolist() == [0, 0, 1, 2, 2]


def test_files_of_other_ratings_are_refused() -> None:
    with pytest.raises(BundleError, match=r"3 ratings, rating_codes\.npy has 2"):
        parts_of((1.0, 2.0, 4.0), codes=2)


@pytest.fixture(scope="module")
def rating(tmp_path_factory: pytest.TempPathFactory) -> MadeUpItems:
    return write_made_up_items(tmp_path_factory.mktemp("rating"), TEXTS, ratings=VALUES)


@pytest.fixture
async def stub(rating: MadeUpItems) -> AsyncIterator["Stub"]:
    servicer = make_servicer(rating.bundle, rating.engine)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        yield rpc.GeneratorServiceStub(channel)
    await servicer.close()


def ratings_in(answer: pb.PredictRatingsResponse) -> dict[str, float]:
    return {each.item_id: each.rating for each in answer.ratings}


def asking(*items: int, **fields: Any) -> pb.PredictRatingsRequest:
    return pb.PredictRatingsRequest(item_ids=ids(*items), **fields)


async def test_a_user_is_told_by_the_bundles_ratings(rating: MadeUpItems, stub: "Stub") -> None:
    """Of whom nothing is known, the answer is another."""
    answer = await stub.PredictRatings(asking(9, 4, 9, user_id="ann"))
    own = rated((0, 0), (1, 1), (2, 2))  # as the made-up bundle has it
    expected = [by_hand(rating, own, item) for item in (9, 4)]
    assert [each.item_id for each in answer.ratings] == ids(9, 4)
    assert list(ratings_in(answer).values()) == pytest.approx(expected, abs=1e-5)
    assert answer.bundle_version == "tiny/1"
    assert answer.batch_size == 1
    assert [timing.stage for timing in answer.timings] == ["prepare", "queue", "model"]
    anybody = await stub.PredictRatings(asking(9, 4, user_id="nobody"))
    alone = [by_hand(rating, NOTHING_RATED, item) for item in (9, 4)]
    assert list(ratings_in(anybody).values()) == pytest.approx(alone, abs=1e-5)


async def test_ratings_of_the_request_come_first(rating: MadeUpItems, stub: "Stub") -> None:
    given = [pb.RatedItem(item_id="i8", rating=4.0), pb.RatedItem(item_id="x", rating=5.0)]
    answer = await stub.PredictRatings(asking(9, user_id="ann", rated_items=given))
    expected = by_hand(rating, rated((8, 3)), 9)
    assert ratings_in(answer) == pytest.approx({"i9": expected}, abs=1e-5)
    assert answer.missing_item_ids == ["x"]


async def test_items_that_are_not_there_are_named(stub: "Stub") -> None:
    answer = await stub.PredictRatings(pb.PredictRatingsRequest(item_ids=["x", "i1", "y", "x"]))
    assert list(ratings_in(answer)) == ["i1"]
    assert answer.missing_item_ids == ["x", "y"]
    nothing = await stub.PredictRatings(pb.PredictRatingsRequest(item_ids=["x"]))
    assert not nothing.ratings
    assert nothing.bundle_version == "tiny/1"


def star(rating: float) -> pb.RatedItem:
    return pb.RatedItem(item_id="i1", rating=rating)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (asking(), "NO_ITEMS"),
        (asking(*range(40), *range(40), *range(21)), "TOO_MANY_ITEMS"),
        (pb.PredictRatingsRequest(item_ids=[""]), "EMPTY_ID"),
        (asking(1, user_id="u" * 513), "ID_TOO_LONG"),
        (asking(1, rated_items=[star(0.0)]), "RATING_OUT_OF_RANGE"),
        (asking(1, rated_items=[star(math.nan)]), "RATING_OUT_OF_RANGE"),
        (asking(1, rated_items=[star(1.0)] * 10_001), "TOO_MANY_ITEMS"),
    ],
)  # fmt: skip
async def test_bad_requests_are_refused(
    stub: "Stub", request_: pb.PredictRatingsRequest, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.PredictRatings(request_)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert errors.from_rpc(refused.value).reason == reason


async def test_a_model_without_ratings_says_so(made_up_items: MadeUpItems) -> None:
    servicer = make_servicer(made_up_items.bundle, made_up_items.engine)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rpc.GeneratorServiceStub(channel).PredictRatings(asking(1))
    await servicer.close()
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert errors.from_rpc(refused.value).reason == "RATINGS_NOT_LEARNED"


def test_a_bundle_without_ratings_is_as_it_was(made_up_items: MadeUpItems) -> None:
    text = (made_up_items.bundle.path / "manifest.json").read_text(encoding="utf-8")
    assert '"ratings"' not in text
    assert not [file for file in made_up_items.bundle.manifest.files if "rating" in file]


def test_a_saved_model_rates_as_it_did(rating: MadeUpItems, tmp_path: Path) -> None:
    rating.model.save(tmp_path)
    again = type(rating.model).load(
        tmp_path, np.array(rating.bundle.array("code_tokens", np.int32))
    )
    assert again.rating_vectors is not None
    assert rating.model.rating_vectors is not None
    assert torch.equal(again.rating_vectors, rating.model.rating_vectors)
    assert again.rating_tokens.tolist() == rating.model.rating_tokens.tolist()
