"""The addresses of a service: which there are, and which a call goes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bundle import Bundle
from gateway.calls import targets as targets_module
from gateway.calls.caller import CallPolicy
from gateway.calls.circuit import Circuit, Limits, State, Verdict
from gateway.calls.clients import CandidateClient
from gateway.calls.targets import choose, parse, resolve
from serving.testing import listening
from tests.gateway.calls.pool import Pool, pool
from tests.gateway.fakes import FakeCandidate, attach_candidate
from tests.tiny_bundle import write_tiny_bundle


async def test_names_are_looked_up(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    service = FakeCandidate(bundle)
    async with listening(service, attach_candidate) as address:
        port = address.rpartition(":")[2]
        client = CandidateClient(f"dns:///localhost:{port}", bundle.version)
        one = Pool([service], client)
        await one.search()
        assert one.asked == [1]
        known = client.targets._targets
        assert f"ipv4:127.0.0.1:{port}" in known
        await client.close()


async def test_addresses_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    services = [FakeCandidate(bundle) for _ in range(2)]
    attach = attach_candidate
    async with listening(services[0], attach) as first, listening(services[1], attach) as second:
        now: list[str] = [first]

        async def look_up(entry: str) -> Sequence[str]:
            if not now:
                raise OSError("no such name")
            return list(now)

        monkeypatch.setattr(targets_module, "resolve", look_up)
        monkeypatch.setattr(targets_module, "RESOLVE_SECONDS", 1e-6)
        client = CandidateClient("dns:///somewhere:1", bundle.version)
        both = Pool(services, client)
        await both.search()
        now[:] = [second]
        while not both.asked[1]:
            await both.search()
        now.clear()  # the look-up fails: what was known stays
        asked = both.asked
        for _ in range(5):
            await both.search()
        assert both.asked == [asked[0], asked[1] + 5]
        await client.close()


@pytest.mark.parametrize("spec", ["", " , ", "dns:///nowhere", "dns:///:1", "dns:///host:port"])
def test_addresses_that_are_none(spec: str) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        parse(spec)


async def test_addresses() -> None:
    assert parse("a:1, b:2 ,a:1,dns:///c:3") == ("a:1", "b:2", "dns:///c:3")
    assert await resolve("a:1") == ["a:1"]
    assert await resolve("dns:///127.0.0.1:5") == ["ipv4:127.0.0.1:5"]
    assert await resolve("dns:///[::1]:5") == ["ipv6:[::1]:5"]


@dataclass(eq=False)
class Option:
    circuit: Circuit
    in_flight: int
    reachable: bool


@st.composite
def options(draw: st.DrawFn) -> Option:
    circuit = Circuit(Limits(failures=1), lambda: 0.0)
    if draw(st.booleans()):
        permit = circuit.enter()
        assert permit is not None
        circuit.leave(permit, Verdict.BAD)
    return Option(circuit, draw(st.integers(0, 3)), draw(st.booleans()))


@given(st.lists(options(), max_size=6), st.integers(0, 100), st.data())
def test_the_choice_is_the_best_that_there_is(
    targets: list[Option], turn: int, data: st.DataObject
) -> None:
    tried = data.draw(st.lists(st.sampled_from(targets))) if targets else []
    chosen = choose(targets, tried, turn)
    ready = [target for target in targets if target.circuit.state is not State.OPEN]
    if chosen is None:
        assert not ready
        return
    assert chosen in ready
    for other in ready:
        assert (chosen in tried, not chosen.reachable, chosen.in_flight) <= (
            other in tried,
            not other.reachable,
            other.in_flight,
        )


async def test_a_version_is_looked_for_among_all_targets(tmp_path: Path) -> None:
    async with pool(tmp_path, 3, CallPolicy(retry_ratio=0)) as three:
        for service in three.services[:2]:
            service.version = "tiny/2"
        for _ in range(20):
            await three.search()
        assert three.asked == [0, 0, 20]
        assert three.states() == [State.CLOSED] * 3
        assert three.client.version == "tiny/1"
        three.services[2].version = "tiny/2"
        await three.search()  # by whichever there is, and the answer says so
        assert sum(three.asked) == 21
        assert three.client.version == "tiny/2"
