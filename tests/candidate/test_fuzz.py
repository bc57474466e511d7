"""Ten thousand made-up requests to one real server: every answer is a canonical one.

No request may show a defect (INTERNAL, UNKNOWN), and after all of them the server still answers, by
a catalog that is what it says it is.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from core.bundle import Bundle
from services.candidate.servicer import CandidateServicer
from serving.testing import serving
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tests.candidate.generated import Generator
from tests.candidate.made_up import make_world
from tests.candidate.served import Stub, attach
from tests.candidate.small_bundle import write_small_bundle

REQUESTS: Final = 10_500
CALLERS: Final = 32
METHODS: Final = (
    *pb.DESCRIPTOR.services_by_name["CandidateService"].methods,
    *catalog_pb.DESCRIPTOR.services_by_name["CatalogService"].methods,
)
DEFECTS: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
LONGEST: Final = 2**20
"""Bytes of a message that the server takes: longer ones would only take longer to refuse."""


@pytest.mark.slow
async def test_no_request_shows_a_defect(tmp_path: Path) -> None:
    bundle = Bundle.open(write_small_bundle(tmp_path, make_world()))
    servicer = CandidateServicer.load(bundle, threads=2, store=tmp_path / "items.db")
    outcomes: Counter[tuple[str, grpc.StatusCode]] = Counter()
    async with serving(servicer, attach, max_message_bytes=LONGEST) as channel:
        numbers = iter(range(REQUESTS))

        async def call_on() -> None:
            for number in numbers:
                method = METHODS[number % len(METHODS)]
                request = Generator(number).request(method.input_type)
                code = await outcome(channel, method, request)
                outcomes[method.name, code] += 1
                assert code not in DEFECTS, f"request {number} of {method.name}"

        await asyncio.gather(*(call_on() for _ in range(CALLERS)))
        stub = Stub(channel)
        listed = await stub.ListItems(catalog_pb.ListItemsRequest(page_size=1_000))
        found = await stub.Search(pb.SearchRequest(max_results=1_000))
    await servicer.close()
    assert {item.item_id for item in listed.items} == {item.item_id for item in found.items}
    assert outcomes.total() == REQUESTS
    for method in METHODS:
        assert outcomes[method.name, grpc.StatusCode.OK], f"{method.name} never succeeded"
        assert outcomes[method.name, grpc.StatusCode.INVALID_ARGUMENT], method.name


async def outcome(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: bytes
) -> grpc.StatusCode:
    """Makes a call; of a stream, which has no end, the first message is enough."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.server_streaming:
            follow: Any = channel.unary_stream(path)
            stream = follow(request)
            await stream.read()
            stream.cancel()
        else:
            unary: Any = channel.unary_unary(path)
            await unary(request)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
