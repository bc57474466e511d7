"""int8 gets into a bundle only when it keeps the rankings."""

import json
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
        histories={f"u{u}": [(u * 7 + 3 * i) % 40 for i in range(8)] for u in range(6)},
    )


def test_the_loss_is_that_of_the_metric_over_each_users_last_items(made_up: MadeUp) -> None:
    asked = questions(made_up.bundle)
    histories = made_up.bundle.histories
    items = histories.of("u2")
    assert items is not None
    mine = [q for q in asked if q.user_id == "u2"]
    assert [q.target for q in mine] == items[-5:-1].tolist()  # never the test item
    assert [len(q.history) for q in mine] == [3, 4, 5, 6]
    loss = measure_loss(made_up.bundle, "int8", asked)
    by_hand = []
    for precision in ("fp32", "int8"):
        engine = GeneratorEngine.load(made_up.bundle, precision=precision)
        ranks = []
        for q in asked:
            wish = Generation(10, None, q.history)
            found = engine.generate([RankingQuery(UserContext(q.user, q.history), wish)])[
                0
            ].items.tolist()
            ranks.append(found.index(q.target) + 1 if q.target in found else np.inf)
        by_hand.append(ndcg(np.array(ranks), 10))
    assert (loss.ndcg_fp32, loss.ndcg) == pytest.approx(tuple(by_hand))
    assert loss.relative_loss == pytest.approx(1 - by_hand[1] / by_hand[0])
    assert measure_loss(made_up.bundle, "fp32", asked).relative_loss == 0


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
        export, "_measure_int8", lambda _: PrecisionLoss(1, 1.0, 1.0, next(remaining), 0.0)
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
