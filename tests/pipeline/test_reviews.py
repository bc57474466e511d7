"""A made-up shop whose users review what they buy: five families of one model."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from core.bundle import Bundle
from offline.dataset import DataWarning
from offline.evaluate.families.direct import NEGATIVES, hundreds
from offline.evaluate.protocol import questions
from tests.offline.tiny_models import save_text_embedder

USERS, ITEMS = 30, 12
THINGS = ("strap", "tone", "cable", "pedal", "tuner", "string")
RUN = CliRunner()


def write_reviews(path: Path) -> Path:
    """Everybody likes what has an even number, and says so."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        for place, item in enumerate(rng.permutation(ITEMS)[:9].tolist()):
            thing, good = THINGS[item % 6], item % 2 == 0
            word = "good" if good else "bad"
            rows.append(
                {
                    "user_id": f"u{user}",
                    "item_id": f"i{item}",
                    "rating": 5.0 if good else 2.0,
                    "timestamp": 1_400_000_000 + place,
                    "review": f"It came late. The {thing} is {word}.",
                    "summary": f"{word} {thing}",
                }
            )
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The draft of a bundle: what is built before its weights are chosen."""
    root = tmp_path_factory.mktemp("reviews")
    save_text_embedder(root / "embedder")
    options = [
        "build", "--interactions", str(write_reviews(root / "reviews.jsonl.gz")),
        "--rating-column", "rating", "--review-column", "review", "--summary-column", "summary",
        "--family", "explanation=1", "--family", "review=1", "--name", "shop", "--levels", "2",
        "--embedder", str(root / "embedder"), "--epochs", "1", "--query-epochs", "1",
        "--precision", "fp32", "--until", "export",
        "--work", str(root / "work"), "--bundles", str(root / "bundles"),
    ]  # fmt: skip
    with pytest.warns(DataWarning, match="12 of 12 items described"):
        done = RUN.invoke(app, options)
    assert done.exit_code == 0, done.output + repr(done.exception)
    (draft,) = (root / "work").glob("export-*/shop/draft")
    return draft


@pytest.mark.parametrize(
    ("family", "rows"),
    [
        ("direct", ["popularity", "retrieval", "generator, by name", "generator, by history"]),
        ("explanation", ["generator/seen, told the feature", "constant, best by BLEU-4"]),
        ("review", ["generator/seen", "generator/unseen", "constant, best by ROUGE-L"]),
    ],
)
def test_a_family_is_evaluated_beside_what_needs_no_model(
    bundle: Path, family: str, rows: list[str]
) -> None:
    asked = ["evaluate", "--bundle", str(bundle), "--family", family, "--json"]
    done = RUN.invoke(app, asked)
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["examples"] > 0
    assert set(rows) <= {row["name"] for row in report["rows"]}
    for row in report["rows"]:
        for name, figure in row.items():
            if name != "name" and figure["low"] is not None:
                assert figure["low"] <= figure["value"] <= figure["high"]


def test_ratings_are_evaluated_of_the_same_model(bundle: Path) -> None:
    done = RUN.invoke(app, ["evaluate", "--bundle", str(bundle), "--family", "rating"])
    assert done.exit_code == 0, done.output
    assert "RMSE" in done.output


def test_a_family_prints_a_table(bundle: Path) -> None:
    done = RUN.invoke(app, ["evaluate", "--bundle", str(bundle), "--family", "review"])
    assert done.exit_code == 0, done.output
    assert "ROUGE-L" in done.output
    assert "the constant by BLEU-4" in done.output


def test_the_hundred_holds_nothing_the_user_had(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    asked = questions(opened, "test")
    for question, items in zip(asked, hundreds(opened, asked, seed=1), strict=True):
        history = opened.histories.items[
            opened.histories.indptr[question.user] : opened.histories.indptr[question.user + 1]
        ]
        assert items[0] == question.target
        assert not set(items[1:].tolist()) & set(np.asarray(history).tolist())
        assert len(set(items.tolist())) == len(items) <= NEGATIVES + 1


def test_equal_seeds_draw_equal_hundreds(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    asked = questions(opened, "test")
    alone = hundreds(opened, asked[3:4], seed=1)[0]
    assert np.array_equal(alone, hundreds(opened, asked, seed=1)[3])
