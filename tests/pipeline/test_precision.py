"""int8 gets into a bundle only when it keeps the rankings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offline.build import export
from offline.build.precision import PrecisionLoss, measure_loss, questions
from offline.build.stages.export import ExportSettings
from offline.generator.export.files import HEAD
from offline.metrics import ndcg
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from tests.generator.made_up import MadeUp, level_texts, random_levels, write_made_up


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return write_made_up(
        tmp_path_factory.mktemp("precision"),
        level_texts(random_levels(40, (7, 7))),
        precisions=("fp32", "int8"),
        histories={f"u{u}": [(u * 7 + 3 * i) % 40 for i in range(8)] for u in range(24)},
    )


def test_the_loss_is_that_of_held_out_targets(made_up: MadeUp) -> None:
    asked = questions(made_up.bundle)
    histories = made_up.bundle.histories
    assert [q.user_id for q in asked] == list(histories.user_index)
    items = histories.of("u2")
    assert items is not None
    (mine,) = [q for q in asked if q.user_id == "u2"]
    assert mine.target == items[-2]  # training ends before it, and the test item is after it
    assert mine.history.tolist() == items[:-2].tolist()
    loss = measure_loss(made_up.bundle, "int8", asked)
    by_hand, lists = [], []
    for precision in ("fp32", "int8"):
        engine = GeneratorEngine.load(made_up.bundle, precision=precision)
        ranks, best = [], []
        for q in asked:
            wish = Generation(10, None, q.history)
            found = engine.generate([RankingQuery(UserContext(q.user, q.history), wish)])[
                0
            ].items.tolist()
            best.append(set(found))
            ranks.append(found.index(q.target) + 1 if q.target in found else np.inf)
        lists.append(best)
        by_hand.append(ndcg(np.array(ranks), 10))
    assert (loss.ndcg_fp32, loss.ndcg) == pytest.approx(tuple(by_hand))
    assert loss.relative_loss == pytest.approx(1 - by_hand[1] / by_hand[0])
    shared = [len(one & other) / 10 for one, other in zip(*lists, strict=True)]
    assert loss.overlap == pytest.approx(np.mean(shared))
    assert 0 < loss.score_difference <= loss.largest_score_difference
    same = measure_loss(made_up.bundle, "fp32", asked)
    assert (same.relative_loss, same.overlap, same.largest_score_difference) == (0, 1, 0)


def loss_of(relative_loss: float, half_width: float, overlap: float = 1.0) -> PrecisionLoss:
    return PrecisionLoss(1_000, 0.1, 0.1, relative_loss, half_width, overlap, 0.01, 0.1)


def test_enough_targets_judge_by_the_metric() -> None:
    assert loss_of(0.009, 0.01, overlap=0.5).accepted
    assert not loss_of(0.011, 0.01).accepted
    assert "(± 1.00%)" in str(loss_of(0.009, 0.01))
    assert loss_of(0.009, 0.01).to_json()["judged_by"] == "NDCG@10"


def test_too_few_targets_judge_by_likeness() -> None:
    by_chance = loss_of(0.05, 0.06)
    assert by_chance.accepted
    assert "too few to tell 1%" in str(by_chance)
    assert by_chance.to_json()["judged_by"] == "overlap and score difference"
    assert not loss_of(-0.05, 0.06, overlap=0.89).accepted
    assert not replace(by_chance, score_difference=0.2).accepted


def test_the_sample_is_bounded(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offline.build.precision.MOST_USERS", 3)
    assert [q.user_id for q in questions(made_up.bundle)] == ["u0", "u11", "u23"]


@pytest.mark.parametrize(
    ("losses", "tried"),
    [
        pytest.param([0.01], [{}], id="kept"),
        pytest.param([0.02, 0.0], [{}, {"in_float32": {HEAD}}], id="with its head in fp32"),
        pytest.param(
            [0.02, 0.03],
            [{}, {"in_float32": {HEAD}}, {"precisions": ("fp32",)}],
            id="left out",
        ),
    ],
)
def test_an_export_gives_up_what_loses_too_much(
    tmp_path: Path,
    made_up: MadeUp,
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    tried: list[dict[str, object]],
) -> None:
    drafts: list[dict[str, object]] = []

    def draft(*arguments: object) -> object:
        changes = dict(arguments[3])  # type: ignore[call-overload]
        drafts.append(changes)
        section = made_up.bundle.manifest.generator
        held = section.model_copy(update={"precisions": changes["precisions"]})
        manifest = made_up.bundle.manifest.model_copy(update={"generator": held})
        return type(made_up.bundle)(made_up.bundle.path, manifest)

    remaining = iter(losses)
    monkeypatch.setattr(export, "_draft", draft)
    monkeypatch.setattr(export, "_require_parity", lambda *_: {"users": 1})
    monkeypatch.setattr(
        export, "_measure_int8", lambda _: loss_of(next(remaining), half_width=0.005)
    )
    monkeypatch.setattr(export, "_load", lambda *_, **__: made_up.model)
    settings = ExportSettings(
        name="shop", reads_items=True, max_history=1, max_input_tokens=1, beams=1,
        precisions=("fp32", "int8"), shortlist=1, parity_users=1, seed=0,
    )  # fmt: skip
    export.export(settings, {"generator": tmp_path}, tmp_path)
    full = {"precisions": ("fp32", "int8")}
    assert drafts == [{**full, **changes} for changes in tried]
    assert json.loads((tmp_path / "agreement.json").read_text())["parity"] == {"users": 1}
