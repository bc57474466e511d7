"""The dashboard shows something in each panel once a real Prometheus reads a loaded Tandem."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import gateway.main
import tandem
from gateway.settings import GatewaySettings
from serving.testing import hosted
from tandem.v1 import recommendation_service_pb2 as pb
from tests.deploy.dockerfile import REPOSITORY
from tests.deploy.monitoring.prometheus import Prometheus, watching
from tests.pipeline.stack import running
from tests.pipeline.whole_bundle import write_whole_bundle

DASHBOARD = json.loads((REPOSITORY / "deploy/grafana/tandem.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SECONDS = 60.0
"""Within which each panel shows something."""
SERVING = """
[variants.control]
percent = 50
[variants.next]
percent = 50
strategy = "embedding"
[shadow]
variant = "next"
share = 1.0
"""


def expressions() -> list[str]:
    """What the panels ask, as Grafana would."""
    targets = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [expression.replace("$__rate_interval", "1m") for expression in targets]


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Prometheus]:
    """One that reads a Tandem which is used, and a gateway whose generator is away."""
    bundle = write_whole_bundle(tmp_path)
    (tmp_path / "serving.toml").write_text(SERVING, encoding="utf-8")
    own = {"serving_file": tmp_path / "serving.toml", "history": str(tmp_path / "history.sqlite")}
    store = tmp_path / "items.db"
    async with running(bundle, store=store, metrics_port=0, of_gateway=own) as hosts:
        settings = GatewaySettings(
            bundle=bundle, port=0, metrics_port=0, threads=1, warm_up_seconds=0.1,
            history="bundle", candidate_target=hosts.addresses["candidate"],
            generator_target="127.0.0.1:1", max_in_flight=1, max_wait_ms=0.01,
        )  # fmt: skip
        async with hosted(settings, gateway.main.service(settings)) as (alone, at_alone):
            every = (hosts.gateway, hosts.candidate, hosts.generator, alone)
            ports = [host.telemetry.port for host in every]
            use = asyncio.create_task(use_until_done(hosts.addresses["gateway"], at_alone))
            with watching([port for port in ports if port], tmp_path) as found:
                yield found
            use.cancel()
            with suppress(asyncio.CancelledError):
                await use


async def use_until_done(address: str, alone: str) -> None:
    """Calls of all kinds, clicks, mistakes, and more than the second gateway takes."""
    async with tandem.AsyncClient(address) as client, tandem.AsyncClient(alone) as broken:
        for turn in count():
            user, history = f"u{turn % 7}", ["i1", "i2"]
            answer = await client.recommend(user, history=history)
            await client.record_events(seen_and_clicked(user, answer, turn))
            await client.recommend(user, history=history, strategy="fuse")
            more = [broken.recommend(history=["i1"], strategy="fuse") for _ in range(8)]
            mistake = client.similar_items(items=["nobody has this"])
            await asyncio.gather(mistake, *more, return_exceptions=True)
            await asyncio.sleep(0.1)


def seen_and_clicked(user: str, answer: pb.RecommendResponse, turn: int) -> list[pb.Event]:
    first, shown_by = answer.recommendations[0].item_id, answer.recommendation_id
    return [
        tandem.event(user, first, event_id=f"{turn}-{what}", type=what, recommendation_id=shown_by)
        for what in ("impression", "click")
    ]


async def first_series(prometheus: Prometheus, expression: str, until: float) -> Any:
    """What an expression is, as soon as that is a number."""
    while True:
        found = [each for each in await prometheus.query(expression) if each["value"][1] != "NaN"]
        if found or time.monotonic() > until:
            return found
        await asyncio.sleep(0.5)


@pytest.mark.slow
async def test_every_panel_shows_something(prometheus: Prometheus) -> None:
    until = time.monotonic() + SECONDS
    empty = [each for each in expressions() if not await first_series(prometheus, each, until)]
    assert not empty


def test_panels_have_titles_units_and_sources_to_choose() -> None:
    assert len({panel["title"] for panel in PANELS}) >= len(PANELS) - 1  # two tiers wait
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {each["datasource"]["uid"] for each in panel["targets"]} == {"${source}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
