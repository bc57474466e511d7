"""`tandem build --warm-from`: a day later, with more orders, a new product and one that is gone."""

import csv
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from core.bundle import Bundle
from gateway.history import Retention
from gateway.history.sqlite import SqliteHistoryStore
from tests.pipeline.conftest import ITEMS, USERS, Shop

CURRENT = Path("bundles") / "shop" / "current"


def warm(shop: Shop, bundle: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return shop.build("--warm-from", str(bundle), *options)


def curve_of(done: "subprocess.CompletedProcess[str]") -> dict[int, float]:
    """The generator's validation NDCG@10, of a build until that stage."""
    directory = Path(done.stdout.split("generator: ")[-1].strip())
    curve = json.loads((directory / "facts.json").read_text())["curve"]
    return {int(epoch): ndcg for epoch, ndcg in curve.items()}


@dataclass(frozen=True)
class Days:
    """Yesterday's bundle, and what is built of today's data."""

    before: Bundle
    today: Shop
    after: Bundle
    printed: str


@pytest.fixture(scope="module")
def days(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Days:
    root = tmp_path_factory.mktemp("today")
    shutil.copytree(shop.root / "embedder", root / "embedder")
    with (shop.root / "orders.csv").open() as file:
        rows = [row for row in csv.reader(file) if row[1] != "s3"]
    rows += [[f"c{user}", f"s{ITEMS}", "20"] for user in range(USERS)]
    rows += [["newcomer", f"s{item}", str(item)] for item in range(4, 12)]
    with (root / "orders.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with (root / "products.csv").open("w", newline="") as file:
        products = [[f"s{i}", f"product {i}", "red"] for i in range(ITEMS + 1)]
        csv.writer(file).writerows([["sku", "title", "color"], *products])
    today = Shop(root, None)
    done = warm(today, shop.root / CURRENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return Days(shop.bundle, today, today.bundle, done.stdout)


@pytest.mark.slow
def test_the_manifest_says_what_training_started_from(days: Days) -> None:
    assert days.after.manifest.provenance.warm_from == days.before.version
    assert f"training goes on from {days.before.version}" in days.printed
    shown = CliRunner().invoke(
        app, ["bundle", "show", str(days.after.path)], env={"COLUMNS": "200"}
    )
    assert days.before.version in shown.output
    assert "warm_from" not in (days.before.path / "manifest.json").read_text()


@pytest.mark.slow
def test_items_and_users_of_today_are_served(days: Days) -> None:
    items = {item.item_id for item in days.after.catalog.items}
    assert f"s{ITEMS}" in items
    assert "s3" not in items
    assert "newcomer" in days.after.histories.user_index
    parity = days.after.manifest.metrics["parity"]
    assert parity["identical_lists"] == parity["users"] == USERS + 1


@pytest.mark.slow
def test_equal_data_begin_at_what_the_bundle_reached(shop: Shop) -> None:
    reached = curve_of(shop.build("--until", "generator"))
    done = warm(shop, shop.root / CURRENT, "--until", "generator")
    assert done.returncode == 0, done.stdout + done.stderr
    curve = curve_of(done)
    assert curve[0] == pytest.approx(max(reached.values()), rel=1e-6)
    assert max(curve.values()) >= curve[0]


@pytest.mark.slow
def test_a_stage_is_named_after_the_bundle_and_not_after_its_place(
    days: Days, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "copy"
    shutil.copytree(days.before.path, elsewhere)
    again = warm(days.today, elsewhere, "--until", "query-encoder")
    assert "query-encoder: already built" in again.stdout
    other = warm(days.today, days.after.path, "--until", "query-encoder")
    cold = days.today.build("--until", "query-encoder")
    places = {done.stdout.split("query-encoder: ")[-1].strip() for done in (again, other, cold)}
    assert len(places) == 3
    record = json.loads(
        (Path(cold.stdout.split("query-encoder: ")[-1].strip()) / "stage.json").read_text()
    )
    assert "warm" not in record["settings"]


@pytest.mark.slow
def test_no_stage_holds_pickles(days: Days) -> None:
    stages = list((days.today.root / "work").glob("warm-*"))
    assert stages
    for stage in stages:
        assert {path.suffix for path in stage.iterdir()} == {".safetensors", ".json", ".npy"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--levels", "3"], "codes.levels 2 there, 3 here"),
        (["--preset", "base"], "generator.preset tiny there, mini here"),
        (["--inputs", "tokens"], "generator.inputs items there, tokens here"),
        (["--codes", "random", "--code-style", "text", "--inputs", "tokens"], "codes.style tokens"),
    ],
)
def test_models_of_another_shape_are_refused(
    shop: Shop, options: list[str], complaint: str
) -> None:
    done = warm(shop, shop.root / CURRENT, *options)
    assert done.returncode == 1
    assert complaint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_truncated_bundle_is_refused_by_name(shop: Shop, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shop.bundle.path, broken)
    for name in ("generator.fp32.weights", "query_encoder.onnx"):
        (broken / name).write_bytes((broken / name).read_bytes()[:-1])
        done = warm(shop, broken)
        assert done.returncode == 1
        assert name in done.stderr
        shutil.copy(shop.bundle.path / name, broken / name)


@pytest.mark.slow
def test_data_that_lost_interactions_are_refused(days: Days, shop: Shop) -> None:
    done = warm(shop, days.after.path, "--until", "query-encoder")
    assert done.returncode == 1
    assert "interactions that validate and test this build" in " ".join(done.stderr.split())


async def test_deleted_users_are_said_to_be_remembered(shop: Shop, tmp_path: Path) -> None:
    store = SqliteHistoryStore.open(tmp_path / "history.sqlite", Retention())
    await store.delete("c0")
    await store.close()
    path = str(tmp_path / "history.sqlite")
    done = warm(shop, shop.root / CURRENT, "--deleted-users", path, "--until", "dataset")
    assert done.returncode == 0, done.stderr
    assert "learned from 1 deleted users" in " ".join(done.stdout.split())
