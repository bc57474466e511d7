"""Ten thousand streams at once: few are taken, the rest refused, and neighbors are served."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from bench.lib.held import proc_bytes
from bench.lib.stack import Process
from bench.operate.swaps import all_three
from tandem import CatalogClient, Client
from tandem.v1 import catalog_service_pb2, recommendation_service_pb2
from tests.pipeline.whole_bundle import write_whole_bundle
from tests.processes import PATIENCE
from tests.robustness.crowd import crowd

CONNECTIONS, STREAMS = 100, 100
LIMIT = 256
"""The default of `TANDEM_MAX_CONCURRENT_RPCS`."""
MOST_BYTES = 100 * 2**20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    directory: Path = tmp_path_factory.mktemp("crowd")
    with all_three(write_whole_bundle(directory), directory) as processes:
        yield processes


BATCH = recommendation_service_pb2.BatchRecommendRequest(
    id="1",
    request=recommendation_service_pb2.RecommendRequest(
        history_item_ids=["i1"], strategy=recommendation_service_pb2.STRATEGY_EMBEDDING
    ),
)


@pytest.mark.parametrize(
    ("process", "method", "request_message"),
    [
        ("gateway", "RecommendationService/BatchRecommend", BATCH),
        ("candidate", "CatalogService/WatchItems", catalog_service_pb2.WatchItemsRequest()),
    ],
)
def test_ten_thousand_streams_leave_a_neighbor_served(
    processes: dict[str, Process], process: str, method: str, request_message: Message
) -> None:
    target = processes[process]
    status = f"{target.process.pid}/status"
    before = proc_bytes(status, "VmRSS")
    method = f"/tandem.v1.{method}"
    with (
        crowd(target.address, method, request_message, CONNECTIONS, STREAMS) as fates,
        Client(processes["gateway"].address, timeout=PATIENCE) as client,
        CatalogClient(processes["candidate"].address, timeout=PATIENCE) as catalog,
    ):
        for _ in range(20):
            answer = client.recommend(history=["i1"], strategy="fuse")
            assert len(answer.recommendations) == 10
            assert not answer.degraded
        assert catalog.get_items(["i1"]).items
        grown = proc_bytes(status, "VmRSS") - before
    assert fates.keys() == {"ANSWERED", "RESOURCE_EXHAUSTED"}
    assert fates.total() == CONNECTIONS * STREAMS
    assert 0 < fates["ANSWERED"] <= LIMIT
    assert grown < MOST_BYTES
