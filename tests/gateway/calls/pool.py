"""Candidate services over real channels, and a client of all of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from core import errors
from core.bundle import Bundle
from gateway.calls.caller import CallPolicy
from gateway.calls.circuit import State
from gateway.calls.clients import CandidateClient
from gateway.deadline import Deadline
from gateway.domain import Query, ResolvedQuery, Strategy
from serving.testing import listening
from tests.gateway.fakes import FakeCandidate, attach_candidate
from tests.tiny_bundle import write_tiny_bundle

LATER = errors.Unavailable("later", reason="LATER")


@dataclass
class Pool:
    """Candidate services, and a client of all of them."""

    services: list[FakeCandidate]
    client: CandidateClient

    async def search(self, *history: str, seconds: float = 10.0) -> None:
        query = Query("", history, max_results=3, strategy=Strategy.EMBEDDING)
        deadline = Deadline.of_caller(seconds, default=seconds, limit=seconds)
        await self.client.search(ResolvedQuery(query, history), 3, deadline)

    @property
    def asked(self) -> list[int]:
        return [len(service.requests) for service in self.services]

    def states(self) -> list[State]:
        return [t.circuit.state for t in self.client.targets._targets.values()]


@asynccontextmanager
async def pool(path: Path, size: int, policy: CallPolicy) -> AsyncIterator[Pool]:
    bundle = Bundle.open(write_tiny_bundle(path))
    services = [FakeCandidate(bundle) for _ in range(size)]
    async with AsyncExitStack() as opened:
        addresses = [
            await opened.enter_async_context(listening(service, attach_candidate))
            for service in services
        ]
        client = CandidateClient(",".join(addresses), bundle.version, policy)
        opened.push_async_callback(client.close)
        await client.ready()
        yield Pool(services, client)


async def settle(pool: Pool, calls: int = 30) -> None:
    """Earns retries, and connects everything."""
    for _ in range(calls):
        await pool.search()
