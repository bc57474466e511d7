"""A gateway process that is killed, or whose disk is full, has every event it acknowledged."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import tandem
from tandem import Client
from tests.gateway import small_disk
from tests.processes import PATIENCE, Server, servers
from tests.tiny_bundle import write_tiny_bundle

KILLS = 3
WRITERS = 4


@contextmanager
def serving(directory: Path, history: Path, module: list[str]) -> Iterator[Server]:
    """A gateway whose services are away: histories need none."""
    flags: dict[str, object] = {
        "bundle": write_tiny_bundle(directory),
        "history": history,
        "candidate-target": "127.0.0.1:1",
        "generator-target": "127.0.0.1:1",
        "log-level": "warning",
    }
    server = Server("gateway", [*module, "serve", "gateway"], directory, flags)
    with servers(server), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_WARM_UP_SECONDS", "0")
        yield server.start().wait_serving()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, tmp_path / "history.sqlite", ["cli.main"]) as server:
        yield server


def write(address: str, writer: int, acknowledged: list[tuple[str, str]]) -> None:
    """Records events one call after the other, until the gateway is gone."""
    user = f"user {writer}"
    with Client(address, timeout=PATIENCE) as client:
        for _ in range(100_000):
            batch = [tandem.event(user, f"i{place}") for place in range(3)]
            try:
                client.record_events(batch)
            except tandem.Unavailable:
                return
            acknowledged.extend((user, each.event_id) for each in batch)


@pytest.mark.slow
def test_acknowledged_events_survive_sigkill(gateway: Server) -> None:
    acknowledged: list[tuple[str, str]] = []
    moments = np.random.default_rng(0).uniform(0.05, 0.5, KILLS)
    for round_, moment in enumerate(moments.tolist()):
        with ThreadPoolExecutor(WRITERS) as pool:
            names = range(round_ * WRITERS, (round_ + 1) * WRITERS)
            calls = [pool.submit(write, gateway.address, n, acknowledged) for n in names]
            time.sleep(moment)  # the moment is what is tested: any will do
            gateway.send(signal.SIGKILL)
            for call in calls:
                call.result(PATIENCE)
        gateway.start().wait_serving()
        with Client(gateway.address, timeout=PATIENCE) as client:
            for user in {user for user, _ in acknowledged}:
                kept = {e.event_id for e in client.get_history(user, page_size=1_000).events}
                promised = [event_id for owner, event_id in acknowledged if owner == user]
                assert kept >= set(promised[-1_000:])
    assert len(acknowledged) > 100


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.mkdir()
    if not small_disk.available(path):
        pytest.skip("this system lets no process mount a disk of its own (unshare)")
    return path


def test_a_full_disk_is_survived_and_found_to_have_room_again(tmp_path: Path, mount: Path) -> None:
    module = ["tests.gateway.small_disk", str(mount)]
    with (
        serving(tmp_path, mount / "history.sqlite", module) as gateway,
        Client(gateway.address, timeout=PATIENCE) as client,
    ):
        acknowledged: list[str] = []
        with pytest.raises(tandem.ResourceExhausted) as caught:
            fill(client, acknowledged)
        assert caught.value.reason == "HISTORY_FULL"
        assert len(acknowledged) > 5
        for user in acknowledged:
            assert len(client.get_history(user).events) == 100
        assert gateway.process is not None
        small_disk.make_room(gateway.process.pid, mount)
        fill(client, [], users=5)
        for user in acknowledged:
            assert len(client.get_history(user).events) == 100


def fill(client: Client, acknowledged: list[str], users: int = 1_000) -> None:
    for n in range(users):
        user = f"user {len(acknowledged)} {n}"
        client.record_events([tandem.event(user, f"i{place}") for place in range(100)])
        acknowledged.append(user)
