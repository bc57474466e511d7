"""Three real servers seen from outside: their metrics by HTTP."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.server import ServiceHost
from tandem import AsyncClient
from tests.pipeline.stack import Hosts, running
from tests.pipeline.whole_bundle import ITEMS, write_whole_bundle

SEARCH = "/tandem.v1.CandidateService/Search"
RANK = "/tandem.v1.GeneratorService/Rank"
RECOMMEND = "/tandem.v1.RecommendationService/Recommend"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_bundle(tmp_path_factory.mktemp("seen"))


@pytest.fixture
async def hosts(bundle: Path) -> AsyncIterator[Hosts]:
    async with running(bundle, metrics_port=0) as hosts:
        yield hosts


class Scraped:
    """What a server shows."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, /, **labels: str) -> float | None:
        """Of the series that has these labels, and perhaps others."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return found[0] if found else None


async def scrape(host: ServiceHost) -> Scraped:
    def read() -> str:
        url = f"http://127.0.0.1:{host.telemetry.port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    return Scraped(await asyncio.to_thread(read))


async def test_each_server_shows_its_own_metrics(hosts: Hosts) -> None:
    async with AsyncClient(hosts.addresses["gateway"], timeout=10) as client:
        await client.recommend(history=["i1", "i2"], strategy="fuse", max_results=5)
    gateway = await scrape(hosts.gateway)
    candidate, generator = await scrape(hosts.candidate), await scrape(hosts.generator)
    for server, method in ((gateway, RECOMMEND), (candidate, SEARCH), (generator, RANK)):
        assert server.value("tandem_server_calls_total", method=method, code="OK")
    assert gateway.value("tandem_gateway_answers_total", strategy="fuse")
    assert candidate.value("tandem_candidate_searches_total", source="history")
    assert generator.value("tandem_generator_batch_jobs_count")
    assert candidate.value("tandem_catalog_items") == ITEMS
    assert generator.value("tandem_catalog_items") == ITEMS
    for name, server in (("gateway", gateway), ("candidate", candidate), ("generator", generator)):
        assert server.value("tandem_build_info", process=name) == 1
        assert server.value("tandem_bundle_info", version="tiny/whole", state="serving") == 1
        assert server.value("process_resident_memory_bytes")
        assert server.value("python_gc_collections_total", generation="0") is not None
