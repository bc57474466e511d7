"""Each process killed and stopped under a call: an error in time, and recovery without hands."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import tandem
from tandem import Client
from tandem.client import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.fakes import WAIT
from tests.processes import PATIENCE, Server, servers, wait_until
from tests.tiny_bundle import write_tiny_bundle

Name = Literal["candidate", "generator"]
NEEDED_BY: dict[Name, StrategyName] = {"candidate": "embedding", "generator": "generate"}


@dataclass
class Stack:
    """Three processes and a client that lives as long as all of them."""

    gateway: Server
    candidate: Server
    generator: Server
    client: Client
    directory: Path

    def service(self, name: Name) -> Server:
        return self.candidate if name == "candidate" else self.generator

    def recommend(self, strategy: StrategyName, timeout: float = PATIENCE) -> pb.RecommendResponse:
        return self.client.recommend("ann", strategy=strategy, timeout=timeout)

    def answers(self, strategy: StrategyName) -> bool:
        """Whether a call is answered now; if not, the error must be canonical."""
        try:
            self.recommend(strategy, timeout=1.0)
        except (tandem.Unavailable, tandem.DeadlineExceeded):
            return False
        return True

    def waiting(self, name: Name) -> bool:
        return (self.directory / f"{name}.waiting").exists()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    bundle = write_tiny_bundle(directory)

    def fake(name: Name) -> Server:
        flags = {"bundle": bundle, "signal-file": directory / f"{name}.waiting"}
        module = ["tests.gateway.fake_process", name]
        return Server(name, module, directory, dict[str, object](flags))

    candidate, generator = fake("candidate"), fake("generator")
    flags: dict[str, object] = {"bundle": bundle, "history": "bundle"}
    gateway = Server("gateway", ["cli.main", "serve", "gateway"], directory, flags)
    with servers(candidate, generator, gateway):
        gateway.flags["candidate-target"] = candidate.start().address
        gateway.flags["generator-target"] = generator.start().address
        gateway.start().wait_serving()
        with Client(gateway.address) as client:
            yield Stack(gateway, candidate, generator, client, directory)


@pytest.fixture(autouse=True)
def healthy(stack: Stack) -> Iterator[None]:
    """Every test leaves everything running."""
    yield
    for server in (stack.candidate, stack.generator, stack.gateway):
        assert server.alive
    for name in NEEDED_BY:
        (stack.directory / f"{name}.waiting").unlink(missing_ok=True)
    wait_until(lambda: stack.answers("fuse"), "all to work again")


def test_all_strategies_over_three_processes(stack: Stack) -> None:
    for strategy in ("rerank", "generate", "fuse", "embedding"):
        response = stack.client.recommend("ann", strategy=strategy, request_id=f"r-{strategy}")
        assert len(response.recommendations) == 9
    for server, strategies in (
        (stack.gateway, {"rerank", "generate", "fuse", "embedding"}),
        (stack.candidate, {"rerank", "fuse", "embedding"}),
        (stack.generator, {"rerank", "generate", "fuse"}),
    ):
        logged = {line["request_id"] for line in server.calls()}
        assert {f"r-{strategy}" for strategy in strategies} <= logged


@pytest.mark.parametrize("name", NEEDED_BY)
def test_a_killed_service(stack: Stack, name: Name) -> None:
    victim, strategy, gateway = stack.service(name), NEEDED_BY[name], stack.gateway.process
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            stack.client.recommend, history=[WAIT], strategy=strategy, timeout=PATIENCE
        )
        wait_until(lambda: stack.waiting(name), "the call to be in flight")
        victim.send(signal.SIGKILL)
        # In flight: long before its deadline.
        failure = call.exception(PATIENCE / 2)
    assert isinstance(failure, tandem.Unavailable)
    assert failure.reason == "SERVICE_UNAVAILABLE"
    assert failure.metadata == {"service": name}
    # After it: at once, and what does not need the service still works.
    with pytest.raises(tandem.Unavailable) as caught:
        stack.recommend(strategy)
    assert caught.value.metadata == {"service": name}
    other: StrategyName = "generate" if name == "candidate" else "embedding"
    assert len(stack.recommend(other).recommendations) == 9

    victim.start()
    wait_until(lambda: stack.answers(strategy), f"the gateway to find the {name} again")
    assert stack.gateway.process is gateway


@pytest.mark.parametrize("name", NEEDED_BY)
def test_a_stopped_service(stack: Stack, name: Name) -> None:
    victim, strategy = stack.service(name), NEEDED_BY[name]
    victim.send(signal.SIGSTOP)
    try:
        with pytest.raises(tandem.DeadlineExceeded):
            stack.recommend(strategy, timeout=0.5)
    finally:
        victim.send(signal.SIGCONT)
    wait_until(lambda: stack.answers(strategy), f"the {name} to answer again")


def test_a_killed_gateway(stack: Stack) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            stack.client.recommend, history=[WAIT], strategy="embedding", timeout=PATIENCE
        )
        wait_until(lambda: stack.waiting("candidate"), "the call to be in flight")
        stack.gateway.send(signal.SIGKILL)
        failure = call.exception(PATIENCE / 2)
    assert isinstance(failure, tandem.Unavailable)
    with pytest.raises(tandem.Unavailable):
        stack.recommend("rerank")
    stack.gateway.start()
    wait_until(lambda: stack.answers("rerank"), "the client to find the gateway again")


def test_a_stopped_gateway(stack: Stack) -> None:
    stack.gateway.send(signal.SIGSTOP)
    try:
        with pytest.raises(tandem.DeadlineExceeded):
            stack.recommend("rerank", timeout=0.5)
    finally:
        stack.gateway.send(signal.SIGCONT)
    wait_until(lambda: stack.answers("rerank"), "the gateway to answer again")


def test_a_service_that_is_restarted_politely(stack: Stack) -> None:
    stack.generator.send(signal.SIGTERM)
    assert stack.generator.exit_code() == 0
    with pytest.raises(tandem.Unavailable):
        stack.recommend("generate")
    stack.generator.start()
    wait_until(lambda: stack.answers("generate"), "the gateway to find the generator again")


def test_the_log_of_the_gateway_is_json_throughout(stack: Stack) -> None:
    lines = stack.gateway.log.read_text().splitlines()
    assert len(lines) == len(stack.gateway.lines()) > 0
