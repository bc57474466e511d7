"""Each process killed and stopped under load: answers in time, and recovery without hands."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import tandem
from tandem import Client
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.fakes import GENERATOR_WAITS, WAIT
from tests.gateway.stack import UNSEEN, best, final_score, ids
from tests.processes import PATIENCE, Server, servers, wait_until
from tests.tiny_bundle import ITEMS, item_id, write_tiny_bundle

Name = Literal["candidate", "generator"]
NAMES: tuple[Name, ...] = ("candidate", "generator")


FULL = best(final_score, UNSEEN, 10)


class Load:
    """Callers that each send their next call when they have the answer to their last."""

    def __init__(self, client: Client, callers: int) -> None:
        self.answers: list[pb.RecommendResponse] = []
        self.failures: list[tandem.Error] = []
        self.failed = threading.Event()
        self._client = client
        self._news = threading.Condition()
        self._over = False
        self._callers = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> "Load":
        for caller in self._callers:
            caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for caller in self._callers:
            caller.join(PATIENCE)

    def _call(self) -> None:
        while not self._over:
            try:
                answer = self._client.recommend("ann", strategy="rerank", timeout=3.0)
            except tandem.Error as failure:
                self.failures.append(failure)
                self.failed.set()
                continue
            with self._news:
                self.answers.append(answer)
                self._news.notify_all()

    def more(self, count: int) -> None:
        """Waits for so many more answers."""
        with self._news:
            wanted = len(self.answers) + count
            assert self._news.wait_for(lambda: len(self.answers) >= wanted, PATIENCE)

    def until(self, *, degraded: bool) -> None:
        """Waits until twenty answers in a row are, or are not, degraded."""
        with self._news:
            start = len(self.answers)
            assert self._news.wait_for(
                lambda: (
                    len(self.answers) - start >= 20
                    and all(answer.degraded is degraded for answer in self.answers[-20:])
                ),
                PATIENCE,
            ), [list(answer.degradations) for answer in self.answers[-20:]]

    def check(self, stage: str) -> None:
        """At least 99.9% of calls are answered, and whatever is not the full answer says so."""
        assert len(self.failures) <= 0.001 * len(self.answers), self.failures
        for answer in self.answers:
            assert answer.degraded == bool(answer.degradations)
            assert answer.degraded or ids(answer) == FULL
            assert sorted(ids(answer)) == sorted(FULL)
            assert {d.stage for d in answer.degradations} <= {stage}


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
        """Whether a call is answered in full now; if not, an error must be canonical."""
        try:
            return not self.recommend(strategy, timeout=1.0).degraded
        except (tandem.Unavailable, tandem.DeadlineExceeded):
            return False

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
    for name in NAMES:
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


@pytest.mark.parametrize("name", NAMES)
def test_a_service_killed_under_load(stack: Stack, name: Name) -> None:
    victim, gateway = stack.service(name), stack.gateway.process
    with Load(stack.client, callers=6) as load:
        load.more(200)
        victim.send(signal.SIGKILL)
        load.until(degraded=True)
        load.more(200)
        victim.start()
        load.until(degraded=False)
        load.more(200)
    load.check(stage="search" if name == "candidate" else "rerank")
    assert stack.gateway.process is gateway


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_service_stopped_under_load(stack: Stack, name: Name) -> None:
    victim = stack.service(name)
    with Load(stack.client, callers=6) as load:
        load.more(200)
        victim.send(signal.SIGSTOP)
        try:
            load.until(degraded=True)
            load.more(200)
        finally:
            victim.send(signal.SIGCONT)
        load.until(degraded=False)
        load.more(200)
    load.check(stage="search" if name == "candidate" else "rerank")


def test_both_services_killed_under_load(stack: Stack) -> None:
    with Load(stack.client, callers=6) as load:
        load.more(100)
        for victim in (stack.candidate, stack.generator):
            victim.send(signal.SIGKILL)
        load.until(degraded=True)
        load.more(200)
        for victim in (stack.candidate, stack.generator):
            victim.start()
        load.until(degraded=False)
    assert not load.failures
    popular = [item_id(p) for p in sorted(UNSEEN)]
    without_both = [answer for answer in load.answers if len(answer.degradations) == 2]
    assert without_both
    for answer in without_both:
        assert [d.fallback for d in answer.degradations] == [
            pb.FALLBACK_GENERATION,
            pb.FALLBACK_POPULARITY,
        ]
        assert ids(answer) == popular


@pytest.mark.slow
def test_a_slow_generator(stack: Stack) -> None:
    for _ in range(10):
        response = stack.client.recommend(history=[GENERATOR_WAITS, "i0"], timeout=1.5)
        assert ids(response) == [item_id(p) for p in range(1, ITEMS)][:10]
        (degradation,) = response.degradations
        assert degradation.fallback == pb.FALLBACK_RETRIEVAL
        # After the first few nobody waits for it any more.
        if degradation.reason == "CIRCUIT_OPEN":
            return
        assert degradation.reason == "DEADLINE_EXCEEDED"
    pytest.fail("the circuit did not open")


def test_a_gateway_that_is_stopped_politely_under_load(stack: Stack) -> None:
    before = len(stack.gateway.calls())
    with Load(stack.client, callers=6) as load:
        load.more(200)
        stack.gateway.send(signal.SIGTERM)
        assert stack.gateway.exit_code() == 0
        load.failed.wait(PATIENCE)
    # A call that it let in is answered; others are refused, and that is all that fails.
    calls = stack.gateway.calls()[before:]
    refused = [call for call in calls if call["code"] != "OK"]
    assert {call["reason"] for call in refused} <= {"DRAINING"}
    assert len(calls) - len(refused) == len(load.answers)
    assert {type(failure) for failure in load.failures} == {tandem.Unavailable}
    assert not any(answer.degraded for answer in load.answers)
    stack.gateway.start().wait_serving()


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


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_is_restarted_politely(stack: Stack, name: Name) -> None:
    victim = stack.service(name)
    with Load(stack.client, callers=6) as load:
        load.more(100)
        victim.send(signal.SIGTERM)
        assert victim.exit_code() == 0
        load.until(degraded=True)
        victim.start()
        load.until(degraded=False)
    load.check(stage="search" if name == "candidate" else "rerank")


def test_the_log_of_the_gateway_is_json_throughout(stack: Stack) -> None:
    lines = stack.gateway.log.read_text().splitlines()
    assert len(lines) == len(stack.gateway.lines()) > 0
