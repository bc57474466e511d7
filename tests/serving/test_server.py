"""The life of a server process: bind, load, warm, serve, drain."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tandem.errors import Error, from_rpc
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tandem.v1 import catalog_service_pb2_grpc as catalog_grpc
from tandem.v1.catalog_service_pb2 import GetItemsRequest
from tests.gateway.fakes import WAIT
from tests.processes import (
    NOT_SERVING,
    PATIENCE,
    REPOSITORY,
    SERVING,
    Server,
    servers,
    wait_until,
)
from tests.tiny_bundle import write_tiny_bundle

SERVICE = "tandem.v1.CandidateService"
CATALOG = "tandem.v1.CatalogService"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(
        "candidate",
        ["tests.gateway.fake_process", "candidate"],
        tmp_path,
        {
            "bundle": write_tiny_bundle(tmp_path),
            "load-gate": tmp_path / "gate",
            "signal-file": tmp_path / "waiting",
        },
    )
    with servers(server):
        yield server


def refused(server: Server) -> bool:
    """Whether a caller that connects now is turned away, in the canonical way."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        error = search(channel).exception()
    if error is not None:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
    return error is not None


def open_gate(server: Server) -> None:
    (server.directory / "gate").touch()


def search(channel: grpc.Channel, *history: str) -> Any:
    """A call in flight."""
    request = pb.SearchRequest(history_item_ids=history, max_results=3)
    return pb_grpc.CandidateServiceStub(channel).Search.future(request, timeout=PATIENCE)


def failure_of(call: Any) -> Error:
    with pytest.raises(grpc.RpcError) as caught:
        call.result()
    return from_rpc(caught.value)


def test_a_life(server: Server) -> None:
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        # Loading: health answers, calls are told to come back.
        assert server.health() == server.health(SERVICE) == server.health(CATALOG) == NOT_SERVING
        early = failure_of(search(channel))
        assert (early.code, early.reason) == (grpc.StatusCode.UNAVAILABLE, "WARMING_UP")

        open_gate(server)
        server.wait_serving()
        assert server.health(SERVICE) == server.health(CATALOG) == SERVING
        assert len(search(channel).result().items) == 3
        listed = catalog_grpc.CatalogServiceStub(channel).GetItems(GetItemsRequest(item_ids=["i1"]))
        assert [item.item_id for item in listed.items] == ["i1"]
        with pytest.raises(grpc.RpcError) as unknown:
            server.health("tandem.v1.NoService")
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        reflected = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {SERVICE, CATALOG, "grpc.health.v1.Health"} <= set(reflected)

        server.send(signal.SIGTERM)
        assert server.exit_code() == 0
    events = [line["event"] for line in server.lines() if line["event"] != "call"]
    assert events == ["listening", "serving", "draining", "stopped"]
    assert {line["process"] for line in server.lines()} == {"candidate"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_lets_calls_end_and_refuses_new_ones(
    server: Server, number: signal.Signals
) -> None:
    server.flags["drain-seconds"] = PATIENCE
    open_gate(server)
    server.start().wait_serving()
    with (
        grpc.insecure_channel(server.address) as channel,
        grpc.insecure_channel(server.address) as watcher,
    ):
        waiting = search(channel, WAIT)
        health = health_pb2_grpc.HealthStub(watcher).Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == SERVING
        wait_until((server.directory / "waiting").exists, "the call to arrive")

        server.send(number)
        assert next(health).status == NOT_SERVING
        wait_until(lambda: refused(server), "new calls to be refused")
        assert not waiting.done()
        assert server.alive
        waiting.cancel()  # the fake's call ends only so
        # The watcher, whose stream never ends by itself, does not hold the server up.
        assert server.exit_code() == 0


def test_a_drain_under_load_ends_no_call_but_with_unavailable(server: Server) -> None:
    open_gate(server)
    server.start().wait_serving()

    async def call_until_refused(channel: grpc.aio.Channel) -> tuple[int, str]:
        stub = pb_grpc.CandidateServiceStub(channel)
        answered = 0
        while True:
            try:
                await stub.Search(pb.SearchRequest(max_results=3), timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                return answered, error.code().name
            answered += 1
            if answered == 20:
                busy.set()

    busy = asyncio.Event()

    async def callers() -> list[tuple[int, str]]:
        options = [("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(server.address, options) as channel:
            calls = [asyncio.create_task(call_until_refused(channel)) for _ in range(16)]
            await busy.wait()
            server.send(signal.SIGTERM)
            return await asyncio.gather(*calls)

    ended = asyncio.run(callers())
    assert {code for _, code in ended} == {"UNAVAILABLE"}
    assert server.exit_code() == 0
    assert sum(answered for answered, _ in ended) == len(
        [line for line in server.calls() if line["code"] == "OK"]
    )


def test_a_signal_has_it_log_what_it_is_at(server: Server) -> None:
    open_gate(server)
    server.start().wait_serving()
    with grpc.insecure_channel(server.address) as channel:
        private = "somebody's item"
        request = pb.SearchRequest(history_item_ids=[WAIT, private], max_results=3)
        stub = pb_grpc.CandidateServiceStub(channel)
        waiting = stub.Search.future(request, metadata=(("x-request-id", "r1"),))
        wait_until((server.directory / "waiting").exists, "the call to arrive")
        server.send(signal.SIGUSR1)
        wait_until(lambda: "state" in [line["event"] for line in server.lines()], "the state")
        waiting.cancel()
    (state,) = [line for line in server.lines() if line["event"] == "state"]
    (call,) = state["calls"]
    assert state["in_flight"] == 1
    assert (call["method"], call["request_id"]) == ("/tandem.v1.CandidateService/Search", "r1")
    assert call["seconds"] >= 0
    assert state["gauges"][f"tandem_server_calls_in_flight {call['method']}"] == 1
    assert any(name.startswith("tandem_bundle_info tiny/1") for name in state["gauges"])
    assert sum(state["tasks"].values()) >= 2
    assert private not in server.log.read_text()
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0


@pytest.mark.parametrize("asked", [False, True])
def test_connections_are_shown_where_that_is_asked_for(server: Server, asked: bool) -> None:
    if asked:
        server.flags["channelz"] = "true"
    open_gate(server)
    server.start().wait_serving()
    with grpc.insecure_channel(server.address) as channel:
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        call = stub.GetServers.future(channelz_pb2.GetServersRequest(), timeout=PATIENCE)
        if asked:
            assert call.result().server[0].data.calls_started > 0
        else:
            assert failure_of(call).code == grpc.StatusCode.UNIMPLEMENTED


def test_calls_that_outlast_the_drain_are_cut_off(server: Server) -> None:
    server.flags["drain-seconds"] = 0.2
    open_gate(server)
    server.start().wait_serving()
    with grpc.insecure_channel(server.address) as channel:
        waiting = search(channel, WAIT)
        wait_until((server.directory / "waiting").exists, "the call to arrive")
        server.send(signal.SIGTERM)
        assert failure_of(waiting).code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert server.exit_code() == 0


def test_sigterm_while_loading_ends_it(server: Server) -> None:
    server.start()
    server.send(signal.SIGTERM)
    assert server.exit_code() == -signal.SIGTERM


def start_and_fail(server: Server, **flags: object) -> list[dict[str, Any]]:
    """Runs a server that cannot start; returns its log."""
    command = [sys.executable, "-m", *server.module]
    for flag, value in {**server.flags, "port": 0, **flags}.items():
        command += [f"--{flag}", str(value)]
    with server.log.open("wb") as log:
        done = subprocess.run(command, cwd=REPOSITORY, stderr=log, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    return server.lines()


def test_an_altered_bundle_is_not_served(server: Server) -> None:
    bundle = Path(str(server.flags["bundle"]))
    (bundle / "users.json").write_text("[]")
    last = start_and_fail(server)[-1]
    assert last["event"] == "cannot serve"
    assert last["reason"] == "BUNDLE_INVALID"
    assert "users.json is not the file that the manifest describes" in last["error"]


def test_a_port_that_is_taken_is_named(server: Server) -> None:
    open_gate(server)
    server.start()
    other = Server("other", server.module, server.directory, server.flags)
    (line,) = start_and_fail(other, port=server.port)
    assert line["reason"] == "SETTINGS_INVALID"
    assert f"cannot listen on 127.0.0.1:{server.port}" in line["error"]


def test_off_the_loopback_without_keys_protected_calls_are_refused(server: Server) -> None:
    server.flags["host"] = "0.0.0.0"  # noqa: S104 - that it is off the loopback is the point
    open_gate(server)
    server.start().wait_serving()
    with grpc.insecure_channel(server.address) as channel:
        assert len(search(channel).result().items) == 3
        catalog = catalog_grpc.CatalogServiceStub(channel)
        refused = failure_of(catalog.GetItems.future(GetItemsRequest(item_ids=["i1"])))
        assert (refused.code.name, refused.reason) == ("UNAUTHENTICATED", "NO_CREDENTIALS")
        assert "TANDEM_KEYS_FILE" in refused.message
        with pytest.raises(grpc.RpcError) as looked:
            ProtoReflectionDescriptorDatabase(channel).get_services()
        assert from_rpc(looked.value).reason == "NO_CREDENTIALS"
    assert "there is no --keys-file" in server.log.read_text()
