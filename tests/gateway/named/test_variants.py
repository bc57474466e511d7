"""A variant may be another bundle of the gateway, with services of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import tandem
from gateway.variants.assignment import assigned, subject
from tandem import event
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.named.shops import SHOPS, Shops, bundle_of, running

USERS = [f"u{n}" for n in range(40)]
SHARES = [("control", 50.0), ("next", 50.0)]
DRAWN = {user: assigned("halves", SHARES, subject(user, ())) for user in USERS}


@asynccontextmanager
async def experiment(
    root: Path, history: str | None = "both.sqlite", bundle: str = "fr", version: str = ""
) -> AsyncIterator[Shops]:
    """Half of the users of the first shop get the answers of another bundle.

    Args:
        root: where everything is.
        history: the store that the shops share; None where each has its own.
        bundle: the other.
        version: of the other; empty for the one that serves.
    """
    file = root / "serving.toml"
    file.write_text(
        f'experiment = "halves"\n[variants.control]\npercent = 50\n'
        f'[variants.next]\npercent = 50\nbundle = "{bundle}"\nbundle_version = "{version}"\n',
        encoding="utf-8",
    )
    histories = dict.fromkeys(SHOPS, str(root / history)) if history else None
    async with running(root, histories, serving_file=file) as shops:
        yield shops


async def ask(shops: Shops, user: str, **more: Any) -> pb.RecommendResponse:
    return await shops.clients[""].recommend(user, history=["i0"], **more)


def states(registry: CollectorRegistry) -> dict[str, str]:
    """What each variant of the first shop is, as the metrics say."""
    return {
        sample.labels["variant"]: sample.labels["state"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "tandem_gateway_variant_info" and not sample.labels["bundle"]
    }


async def test_its_users_are_answered_by_its_services(tmp_path: Path) -> None:
    async with experiment(tmp_path) as shops:
        for user in USERS:
            answer = await ask(shops, user, strategy="fuse", max_results=3)
            shop = "fr" if DRAWN[user] == "next" else ""
            assert (answer.variant, answer.degraded) == (DRAWN[user], False)
            assert answer.bundle_version == f"{bundle_of(shop)}/1"
            assert {each.bundle_version for each in answer.timings} <= {answer.bundle_version, ""}
            assert all(item.item_id.startswith(shop or "i") for item in answer.recommendations)
        assert states(shops.service.registry) == {"control": "on", "next": "on"}


async def test_what_is_clicked_of_it_is_attributed(tmp_path: Path) -> None:
    async with experiment(tmp_path) as shops:
        answer = await ask(shops, "ann", variant="next")
        shown = answer.recommendations[0].item_id
        seen = event("ann", shown, recommendation_id=answer.recommendation_id)
        recorded = await shops.clients[""].record_events([seen])
        assert (recorded.recorded, recorded.unattributed) == (1, 0)
        stored = [each async for each in shops.clients[""].export_user("ann")]
        assert stored[-1].attribution.variant == "next"


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        pytest.param({"history": None}, "other_histories", id="other histories"),
        pytest.param({"bundle": "it"}, "not_held", id="no such bundle"),
        pytest.param({"version": "shop-fr/2"}, "not_held", id="another version"),
    ],
)
async def test_one_that_cannot_answer_has_no_users(
    tmp_path: Path, arguments: dict[str, Any], state: str
) -> None:
    async with experiment(tmp_path, **arguments) as shops:
        assert {(await ask(shops, user)).variant for user in USERS[:10]} == {"control"}
        assert states(shops.service.registry) == {"control": "on", "next": state}
        with pytest.raises(tandem.FailedPrecondition) as caught:
            await ask(shops, "ann", variant="next")
        assert caught.value.reason == "VARIANT_NOT_READY"


async def test_its_version_is_not_released_while_it_answers(tmp_path: Path) -> None:
    async with experiment(tmp_path) as shops:
        serving = shops.service.bundles["fr"].held.current
        waiting = asyncio.ensure_future(
            shops.clients[""].recommend(
                "ann", history=["wait"], variant="next", strategy="embedding"
            )
        )
        await shops.services["fr"][0].waiting.wait()
        ended = asyncio.ensure_future(serving.calls.end())
        await asyncio.sleep(0)
        assert not ended.done()
        waiting.cancel()
        await ended
