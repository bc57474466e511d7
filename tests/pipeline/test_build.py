"""`tandem build`, from a user's CSV files to recommendations from three processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from core.bundle import Bundle
from offline.build.cache import Inputs, StageCache
from offline.build.pipeline import check_torchrun
from offline.build.publish import content_version
from offline.evaluate.protocol import questions
from offline.evaluate.served import serving
from tandem import Client, filters
from tests.pipeline.conftest import ITEMS, USERS, WRITTEN, Shop, assert_red, write_shop


def test_the_bundle_is_whole_and_says_how_it_was_made(shop: Shop) -> None:
    manifest = shop.bundle.manifest
    assert (manifest.name, manifest.items, manifest.users) == ("shop", ITEMS, USERS)
    assert manifest.provenance.config["generator"]["items"]["loop"]["epochs"] == 2
    rows = {(row["name"], row["ranking"]): row for row in manifest.metrics["rows"]}
    names = (
        "popularity", "transitions", "embedding", "retrieval", "generator/seen",
        "generator/unseen", "generator/untold", "direct", "pipeline/offline", "pipeline",
    )  # fmt: skip
    assert list(dict.fromkeys(name for name, _ in rows)) == list(names)
    for row in rows.values():
        assert row["users"] == USERS
        low, high = row["ci95"]["hr@10"]
        assert low <= row["hr@10"] <= high
    assert {"recall@100", "recall@200"} <= rows["retrieval", "filtered"].keys()
    # Everyone walks round the shop, so transitions know what comes next.
    assert rows["transitions", "filtered"]["hr@5"] == 1.0
    assert manifest.metrics["served_as_offline"]["share"] == 1.0
    parity = manifest.metrics["parity"]
    assert parity["identical_lists"] == parity["users"] == USERS


def test_the_served_bundle_recommends(shop: Shop) -> None:
    asked = questions(shop.bundle, "test")[0]
    history = shop.bundle.catalog.ids(asked.history)
    with serving(shop.bundle.path) as addresses, Client(addresses["gateway"]) as client:
        for strategy in ("rerank", "generate", "fuse", "embedding"):
            answer = client.recommend(
                asked.user_id,
                history=history,
                strategy=strategy,
                filter=filters.equals("color", "red"),
                timeout=20,
            )
            assert_red(answer, history)
        similar = client.similar_items(text="product 7", timeout=20)
        assert len(similar.items) == 10


def test_generated_text_is_marked_from_bundle_to_answer(shop: Shop) -> None:
    manifest = shop.bundle.manifest
    assert manifest.provenance.generated_text == len(WRITTEN) / ITEMS
    by_id = {item.item_id: item for item in shop.bundle.catalog.items}
    for i in range(ITEMS):
        item = by_id[f"s{i}"]
        own, _, written = item.text.partition("\n")
        assert own == item.title == f"product {i}"
        assert (written, *item.attributes.get("generated_text", ("",))) == WRITTEN.get(i, ("", ""))
    with serving(shop.bundle.path) as addresses, Client(addresses["gateway"]) as client:
        answer = client.recommend(
            history=["s1"],
            strategy="embedding",
            filter=filters.equals("generated_text", "scribe-1"),
            item_fields=["title", "attributes"],
            max_results=50,
            timeout=20,
        )
        found = {item.item_id: item.attributes for item in answer.recommendations}
        assert found.keys() == {f"s{i}" for i in WRITTEN}
        for attributes in found.values():
            assert [value.text for value in attributes["generated_text"].values] == ["scribe-1"]


def test_what_is_built_is_not_built_again(shop: Shop) -> None:
    before = shop.bundle.version
    done = shop.build()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already built from the same inputs") == 10
    assert shop.bundle.version == before


@pytest.mark.slow
def test_a_forced_build_comes_to_the_same_version(shop: Shop) -> None:
    before = shop.bundle
    done = shop.build("--force")
    assert done.returncode == 0, done.stderr
    assert "already built" not in done.stdout
    assert shop.bundle.version == before.version
    assert shop.bundle.manifest == before.manifest  # what is there is not written again


def test_a_version_names_what_is_served_and_not_who_built_it(shop: Shop) -> None:
    manifest = shop.bundle.manifest
    assert content_version(manifest) == manifest.version
    elsewhere = manifest.provenance.model_copy(update={"created": "later", "libraries": {}})
    told = {"provenance": elsewhere, "metrics": {}, "version": "other"}
    assert content_version(manifest.model_copy(update=told)) == manifest.version
    blend = manifest.blend.model_copy(update={"shortlist": 7})
    name, entry = next(iter(manifest.files.items()))
    files = manifest.files | {name: entry.model_copy(update={"sha256": "0" * 64})}
    for change in ({"blend": blend}, {"files": files}, {"store": None}):
        assert content_version(manifest.model_copy(update=change)) != manifest.version


@pytest.mark.slow
def test_another_seed_is_another_bundle_that_shares_what_it_can(shop: Shop) -> None:
    done = shop.build("--seed", "1", "--until", "codes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already built") == 2  # dataset and embeddings
    assert "codes: already" not in done.stdout


def test_codes_of_behavior_are_made_from_the_query_encoder(shop: Shop) -> None:
    done = shop.build("--codes", "behavior", "--until", "codes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already built") == 3  # dataset, embeddings and query encoder
    written = Path(done.stdout.split("codes: ")[-1].strip()) / "codes.txt"
    assert len(set(written.read_text().split())) == 24


@pytest.mark.slow
def test_evaluate_prints_what_the_manifest_keeps(shop: Shop) -> None:
    command = [sys.executable, "-m", "cli.main", "evaluate", "--json", "--bundle"]
    done = subprocess.run(
        [*command, str(shop.bundle.path)], capture_output=True, text=True, check=True
    )
    printed = json.loads(done.stdout)
    kept = shop.bundle.manifest.metrics["rows"]
    assert [row["name"] for row in printed["rows"]] == [row["name"] for row in kept]
    for ours, theirs in zip(printed["rows"], kept, strict=True):
        assert ours["hr@10"] == pytest.approx(theirs["hr@10"]), ours["name"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--until", "lunch"], "the stages are: dataset, embeddings"),
        (["--item-column", "skew"], "skew"),
        (["--code-style", "text", "--codes", "semantic"], "tandem: semantic codes say"),
        pytest.param(["--embedder", "/no/such/model"], "/no/such/model", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_is_one_clear_line(shop: Shop, options: list[str], complaint: str) -> None:
    done = shop.build(*options)
    assert done.returncode in (1, 2)
    assert complaint in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_data_must_be_named(shop: Shop) -> None:
    command = [sys.executable, "-m", "cli.main", "build"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--interactions" in done.stderr


@pytest.mark.slow
def test_an_export_that_differs_from_the_model_makes_no_bundle(shop: Shop) -> None:
    sabotage = (
        "import sys\n"
        "from cli.main import main\n"
        "from offline.generator.export import attention\n"
        "attention.MASKED = -0.1  # attends to padding, and to what comes later\n"
        "main()\n"
    )
    done = shop.build("--name", "broken", interpreter=(sys.executable, "-c", sabotage))
    assert done.returncode == 1
    assert "ranked lists equal those of transformers" in done.stderr
    assert not (shop.root / "bundles" / "broken").exists()


def test_a_stage_that_fails_does_not_exist(shop: Shop) -> None:
    cache = StageCache(shop.root / "other", Console(quiet=True))
    attempts = []

    def make(directory: object) -> None:
        attempts.append(directory)
        if len(attempts) == 1:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        cache.stage("thing", make)
    assert not list(cache.root.glob("thing-*[!l]"))  # all that there is ends with .partial
    built = cache.stage("thing", make)
    assert built.path.is_dir()
    assert cache.stage("thing", make) == built
    assert len(attempts) == 2


def test_a_digest_depends_on_every_input() -> None:
    def digest(
        name: str = "codes", seed: int = 0, code: str = "v1", numpy: str = "2.0", after: str = "a"
    ) -> str:
        return Inputs({"seed": seed}, {"module": code, "numpy": numpy}, (after,)).digest(name)

    assert digest() == digest()
    others = [digest("code"), digest(seed=1), digest(code="v2"), digest(numpy="2.1")]
    assert len({digest(), *others, digest(after="b")}) == 6


def test_torchrun_trains_the_generator_only(monkeypatch: pytest.MonkeyPatch) -> None:
    check_torchrun("bundle")
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_torchrun("generator")
    with pytest.raises(ValueError, match="--until generator"):
        check_torchrun("bundle")


@pytest.mark.slow
def test_other_codes_and_a_checkpoint_of_ones_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.offline.tiny_models import save_t5

    root = tmp_path_factory.mktemp("checkpoint")
    shop = write_shop(root)
    done = shop.build(
        "--checkpoint", str(save_t5(root / "t5")), "--codes", "sequential", "--code-style", "text",
        "--until", "export",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (manifest,) = (root / "work").glob("export-*/shop/draft/manifest.json")
    assert '"store"' not in manifest.read_text()
    bundle = Bundle.open(manifest.parent)
    assert bundle.file("codes.txt").read_text().startswith("item_")
    (agreement,) = (root / "work").glob("export-*/agreement.json")
    assert json.loads(agreement.read_text())["parity"]["identical_lists"] == USERS
