"""Versions in the processes behind a gateway: all of them change, or none stays changed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from core.errors import FailedPrecondition, TandemError, Unavailable
from gateway.calls.bundles import ServiceBundles
from gateway.calls.clients import CandidateClient, GeneratorClient
from serving.telemetry.request_id import REQUEST_ID_HEADER, request_id
from serving.testing import listening
from tandem.v1 import bundle_service_pb2 as pb
from tandem.v1 import bundle_service_pb2_grpc as pb_grpc

REFUSED = FailedPrecondition("users.json is missing", reason="BUNDLE_INVALID")


class Holder(pb_grpc.BundleServiceServicer):
    """A process that is asked for versions."""

    def __init__(self, name: str, asked: list[tuple[str, str, str]]) -> None:
        self.name = name
        self.asked = asked
        self.request_ids: set[str] = set()
        self.refuses: dict[str, TandemError] = {}

    ListBundles: Any = None  # not called

    async def LoadBundle(self, request: Any, context: Any) -> pb.LoadBundleResponse:  # noqa: N802
        self._note("load", request.bundle_version, context)
        return pb.LoadBundleResponse()

    async def ActivateBundle(  # noqa: N802
        self, request: Any, context: Any
    ) -> pb.ActivateBundleResponse:
        self._note("activate", request.bundle_version, context)
        return pb.ActivateBundleResponse()

    def _note(self, what: str, version: str, context: Any) -> None:
        self.asked.append((self.name, what, version))
        self.request_ids.add(dict(context.invocation_metadata())[REQUEST_ID_HEADER])
        if version in self.refuses:
            raise self.refuses[version]


class Stack:
    """Two candidates and a generator, which nobody has called yet."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.holders = [
            Holder(name, self.asked) for name in ("candidate", "candidate", "generator")
        ]
        self.bundles: ServiceBundles


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    stack = Stack()
    async with AsyncExitStack() as opened:
        first, second, third = [
            await opened.enter_async_context(
                listening(holder, pb_grpc.add_BundleServiceServicer_to_server)
            )
            for holder in stack.holders
        ]
        candidate = CandidateClient(f"{first},{second}", "tiny/1")
        generator = GeneratorClient(third, "tiny/1")
        opened.push_async_callback(candidate.close)
        opened.push_async_callback(generator.close)
        stack.bundles = ServiceBundles(candidate, generator)
        yield stack


async def test_every_address_is_asked_though_none_was_called_before(stack: Stack) -> None:
    request_id.set("r1")
    await stack.bundles.load("tiny/2")
    loaded = [(name, "load", "tiny/2") for name in ("candidate", "candidate", "generator")]
    assert sorted(stack.asked) == loaded
    stack.asked.clear()
    await stack.bundles.activate("tiny/2", "tiny/1")
    assert stack.asked == [(name, "activate", version) for name, _, version in loaded]
    assert {each for holder in stack.holders for each in holder.request_ids} == {"r1"}


async def test_where_one_refuses_all_go_back(stack: Stack) -> None:
    stack.holders[2].refuses["tiny/2"] = REFUSED
    with pytest.raises(FailedPrecondition, match=r"users\.json is missing") as caught:
        await stack.bundles.activate("tiny/2", "tiny/1")
    assert caught.value.reason == "BUNDLE_INVALID"
    assert stack.asked[:3] == [
        (name, "activate", "tiny/2") for name in ("candidate", "candidate", "generator")
    ]
    assert sorted(stack.asked[3:]) == [
        (name, "activate", "tiny/1") for name in ("candidate", "candidate", "generator")
    ]


async def test_a_service_without_an_address_is_an_error(stack: Stack) -> None:
    nowhere = CandidateClient("dns:///nowhere.invalid:1", "tiny/1")
    with pytest.raises(Unavailable, match="no address of the candidate service"):
        await ServiceBundles(nowhere).load("tiny/2")
    await nowhere.close()
