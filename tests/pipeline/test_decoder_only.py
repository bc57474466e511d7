"""A decoder-only generator, from a user's CSV files to recommendations from three servers."""

import json

import pytest

from core.bundle import Bundle
from offline.evaluate.protocol import questions
from tandem import AsyncClient, filters
from tests.generator.made_up import Backbone
from tests.offline.tiny_models import save_gguf, save_llama
from tests.pipeline.conftest import USERS, Shop, assert_red, write_shop
from tests.pipeline.stack import running


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that serves: only its weights are not chosen yet."""
    shop = write_shop(tmp_path_factory.mktemp("decoder_shop"))
    return exported(shop, "--backbone", "llama")


def exported(shop: Shop, *options: str) -> Bundle:
    done = shop.build(*options, "--until", "export")
    assert done.returncode == 0, done.stdout + done.stderr
    (manifest,) = (shop.root / "work").glob("export-*/shop/draft/manifest.json")
    return Bundle.open(manifest.parent)


def agreement(bundle: Bundle) -> dict[str, int]:
    kept = json.loads((bundle.path.parents[1] / "agreement.json").read_text())
    parity: dict[str, int] = kept["parity"]
    return parity


@pytest.mark.timeout(900)
def test_the_bundle_agrees_with_transformers(draft: Bundle) -> None:
    assert draft.manifest.generator.inputs == "tokens"
    parity = agreement(draft)
    assert parity["identical_lists"] == parity["users"] == USERS


@pytest.mark.timeout(900)
async def test_the_served_bundle_recommends_what_is_asked_for(draft: Bundle) -> None:
    asked = questions(draft, "test")[0]
    history = draft.catalog.ids(asked.history)
    async with (
        running(draft.path) as hosts,
        AsyncClient(hosts.addresses["gateway"]) as client,
    ):
        for strategy in ("rerank", "generate", "fuse"):
            answer = await client.recommend(
                asked.user_id,
                history=history,
                strategy=strategy,
                filter=filters.equals("color", "red"),
                timeout=20,
            )
            assert_red(answer, history)
            assert not answer.degraded, strategy


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_checkpoint_is_trained_on_and_exported(
    tmp_path_factory: pytest.TempPathFactory, kind: Backbone
) -> None:
    root = tmp_path_factory.mktemp("checkpoint")
    shop = write_shop(root)
    checkpoint = save_llama(root / kind, kind=kind)
    options = ("--codes", "sequential", "--code-style", "text")
    bundle = exported(shop, "--checkpoint", str(checkpoint), *options)
    assert bundle.file("codes.txt").read_text().startswith("item_")
    assert agreement(bundle)["identical_lists"] == USERS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_gguf_file_is_adapted_and_exported(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("gguf")
    shop = write_shop(root)
    save_gguf(root / "tiny.gguf")
    adapted = ("--checkpoint", str(root / "tiny.gguf"), "--lora", "--lora-targets", "q,v,ff")
    bundle = exported(shop, *adapted, "--lora-rank", "2", "--input-tokens", "128")
    assert agreement(bundle)["identical_lists"] == USERS
    (converted,) = (root / "work").glob("pretrained-*")
    assert (converted / "model.safetensors").is_file()
    options = (*adapted, "--lora-rank", "3", "--input-tokens", "128")
    again = shop.build(*options, "--until", "generator")
    assert "pretrained: already built" in again.stdout
