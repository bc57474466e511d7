"""What the candidate service counts of searches, queues and its catalog."""

import asyncio
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.candidate.catalog.live import LiveCatalog
from services.candidate.metrics import CandidateMetrics
from services.candidate.servicer import CandidateServicer
from serving.testing import serving
from serving.workers import Workers
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1.catalog_service_pb2 import DeleteItemsRequest
from tests.candidate.coded import make_writer
from tests.candidate.made_up import make_world
from tests.candidate.served import Stub, attach

WORLD = make_world()


async def test_searches_and_the_live_catalog_are_counted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    live = LiveCatalog(WORLD.engine, make_writer(tmp_path / "items.sqlite"))
    servicer = CandidateServicer(live, "made-up/1", Workers(1), metrics=CandidateMetrics(registry))
    await servicer.activate(None)
    items = registry.get_sample_value("tandem_catalog_items")
    assert items == WORLD.engine.catalog.live_count
    async with serving(servicer, attach) as channel:
        stub = Stub(channel)
        for history in (["i1"], ["i2"], []):
            await stub.Search(pb.SearchRequest(history_item_ids=history, max_results=3))
        await stub.DeleteItems(DeleteItemsRequest(item_ids=["i1"]))
        assert registry.get_sample_value("tandem_catalog_items") == items - 1
        assert registry.get_sample_value("tandem_catalog_sequence") == 1
    await servicer.close()
    searches = {
        source: registry.get_sample_value("tandem_candidate_searches_total", {"source": source})
        for source in ("history", "popularity")
    }
    assert searches == {"history": 2, "popularity": 1}


async def test_calls_that_wait_for_a_thread_are_seen() -> None:
    registry, gate = CollectorRegistry(), threading.Event()
    workers = Workers(1)
    live = LiveCatalog(WORLD.engine)
    servicer = CandidateServicer(live, "made-up/1", workers, metrics=CandidateMetrics(registry))
    await servicer.activate(None)
    running = [asyncio.create_task(workers.run(gate.wait)) for _ in range(4)]
    await asyncio.sleep(0)
    assert registry.get_sample_value("tandem_candidate_calls_waiting") == 3
    gate.set()
    await asyncio.gather(*running)
    assert registry.get_sample_value("tandem_candidate_calls_waiting") == 0
    workers.close()
