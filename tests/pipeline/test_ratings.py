"""Ratings, from a column of a user's logs to predictions of three servers, and their errors.

Customers with even numbers are pleased with everything, and the others with nothing.
"""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from core.bundle import Bundle
from offline.ratings.evaluate import evaluate_ratings
from offline.ratings.rated import RATING_PARTS
from offline.reviews.parts import Part
from tandem import AsyncClient
from tests.pipeline.conftest import Shop, write_shop
from tests.pipeline.stack import running

RATED = ("--rating-column", "stars", "--family", "rating=10")
STARS = {0: (4, 5), 1: (1, 2)}


def rate(shop: Shop) -> None:
    """Adds the column."""
    path, rng = shop.root / "orders.csv", np.random.default_rng(0)
    with path.open() as file:
        header, *rows = csv.reader(file)
    with path.open("w", newline="") as file:
        written = csv.writer(file)
        written.writerow([*header, "stars"])
        written.writerows([*row, rng.choice(STARS[int(row[0][1:]) % 2])] for row in rows)


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = write_shop(tmp_path_factory.mktemp("rated"))
    rate(shop)
    done = shop.build(*RATED)
    assert done.returncode == 0, done.stdout + done.stderr
    return shop


def draft_of(shop: Shop, *options: str) -> Bundle:
    done = shop.build(*RATED, *options, "--until", "export")
    assert done.returncode == 0, done.stdout + done.stderr
    (manifest,) = (shop.root / "work").glob("export-*/shop/draft/manifest.json")
    return Bundle.open(manifest.parent)


def difference(bundle: Bundle) -> float:
    """By how much the predictions are nearer than the mean, in RMSE."""
    report = evaluate_ratings(bundle)
    rows = {row.name: row.rmse.value for row in report.rows}
    assert list(rows) == ["mean", "always 5", "user+item bias", "generator", "generator/untold"]
    return rows["mean"] - rows["generator"]


@pytest.mark.timeout(900)
def test_predictions_tell_pleased_customers_from_others(rated: Shop) -> None:
    assert rated.bundle.manifest.generator.ratings == (1.0, 2.0, 4.0, 5.0)
    assert difference(rated.bundle) > 0.1


@pytest.mark.timeout(900)
def test_nothing_tested_was_learned_from(rated: Shop) -> None:
    """Neither of ratings, nor of what ranking holds out."""
    bundle = rated.bundle
    histories, parts = bundle.histories, bundle.array(RATING_PARTS.removesuffix(".npy"), np.int8)
    report = evaluate_ratings(bundle)
    assert report.trained == int((parts == Part.TRAINING).sum())
    assert report.tested == int((parts == Part.TEST).sum()) > 20
    ends = histories.indptr[1:]
    assert not (parts[np.concatenate([ends - 1, ends - 2])] == Part.TRAINING).any()


@pytest.mark.timeout(900)
async def test_the_served_bundle_predicts_ratings(rated: Shop) -> None:
    path = rated.bundle.path
    async with running(path) as hosts, AsyncClient(hosts.addresses["gateway"]) as client:
        items = ["s1", "s2", "s3"]
        pleased = await client.predict_ratings("c0", items, timeout=20)
        displeased = await client.predict_ratings("c1", items, timeout=20)
        told = await client.predict_ratings("", items, rated=dict.fromkeys(["s8", "s9"], 5.0))
    for low, high in ((displeased, pleased), (displeased, told)):
        for one, other in zip(low.ratings, high.ratings, strict=True):
            assert 1.0 <= one.rating < other.rating <= 5.0


@pytest.mark.timeout(900)
def test_evaluate_prints_both_errors(rated: Shop) -> None:
    command = [sys.executable, "-m", "cli.main", "evaluate", "--family", "rating", "--bundle"]
    path = str(rated.bundle.path)
    done = subprocess.run([*command, path], capture_output=True, text=True, check=True)
    assert "user+item bias" in done.stdout
    asked = [*command, path, "--users", "5", "--split", "validation", "--json"]
    printed = subprocess.run(asked, capture_output=True, text=True, check=True)
    report = json.loads(printed.stdout)
    assert report["split"] == "validation"
    for row in report["rows"]:
        for error in (row["rmse"], row["mae"]):
            assert 0 <= error["low"] <= error["value"] <= error["high"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backbone", ["t5", "llama"])
def test_models_that_read_tokens_rate_too(
    tmp_path_factory: pytest.TempPathFactory, backbone: str
) -> None:
    shop = write_shop(tmp_path_factory.mktemp("tokens"))
    rate(shop)
    bundle = draft_of(shop, "--inputs", "tokens", "--backbone", backbone)
    assert bundle.manifest.generator.inputs == "tokens"
    assert difference(bundle) > 0.1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_that_goes_on_keeps_what_it_knows(rated: Shop) -> None:
    """Of one epoch more, the ratings are as good as they were."""
    done = rated.build(*RATED, "--warm-from", str(rated.bundle.path), "--until", "export")
    assert done.returncode == 0, done.stdout + done.stderr
    newest = max(
        (rated.root / "work").glob("export-*/shop/draft/manifest.json"),
        key=lambda path: path.stat().st_mtime,
    )
    assert difference(Bundle.open(newest.parent)) > 0.1
