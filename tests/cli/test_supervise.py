"""Three processes started, served and ended together."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem import Client
from tests.console.served import ask
from tests.processes import PATIENCE, REPOSITORY, wait_until
from tests.tiny_bundle import write_tiny_bundle


class Supervisor:
    """The parent process, and what it says of its children."""

    def __init__(self, directory: Path, bundle: Path, *more: str) -> None:
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.fake_stack", str(bundle), *more],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.addresses: dict[str, str] = {}

    def wait_serving(self, last: str = "gateway") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, address = line.split()
            self.addresses[name] = address
            if name == last:
                return
        raise AssertionError(self.log.read_text())

    def children(self) -> dict[str, int]:
        """The process ids, by name."""
        parent = self.process.pid
        found = {}
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            found[next(word for word in command if word in self.addresses)] = int(child)
        return found


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, write_tiny_bundle(tmp_path))
    children: dict[str, int] = {}
    try:
        supervisor.wait_serving()
        children = supervisor.children()
        yield supervisor
    finally:
        if supervisor.process.poll() is None:
            supervisor.process.terminate()
        supervisor.process.communicate(timeout=PATIENCE)
    for pid in children.values():
        assert not alive(pid)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_gateway_goes_first_where_cores_are_scarce(supervisor: Supervisor) -> None:
    niceness = {
        name: os.getpriority(os.PRIO_PROCESS, pid) for name, pid in supervisor.children().items()
    }
    assert niceness["gateway"] == os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness["gateway"] < niceness["candidate"] == niceness["generator"]


def test_a_console_is_served_last_and_ends_too(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, write_tiny_bundle(tmp_path), "console")
    try:
        supervisor.wait_serving("console")
        console = supervisor.children()["console"]
        asked = ask(f"http://{supervisor.addresses['console']}", "/v1/users/ann/recommendations")
        assert asked.json["recommendations"]
    finally:
        supervisor.process.terminate()
        supervisor.process.communicate(timeout=PATIENCE)
    assert supervisor.process.returncode == 0
    assert not alive(console)


def test_it_serves_in_order_and_ends_on_sigterm(supervisor: Supervisor) -> None:
    assert list(supervisor.addresses) == ["candidate", "generator", "gateway"]
    assert supervisor.children().keys() == supervisor.addresses.keys()
    with Client(supervisor.addresses["gateway"], timeout=PATIENCE) as client:
        assert len(client.recommend("ann", strategy="fuse").recommendations) == 9
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.process.wait(PATIENCE) == 0
    assert supervisor.log.read_text().count('"stopped"') == 3


@pytest.mark.parametrize("name", ["generator", "gateway"])
def test_the_death_of_one_ends_all_and_is_named(supervisor: Supervisor, name: str) -> None:
    children = supervisor.children()
    os.kill(children[name], signal.SIGKILL)
    assert supervisor.process.wait(PATIENCE) == 1
    assert f"the {name} process ended with signal SIGKILL" in supervisor.log.read_text()


def test_the_children_of_a_killed_supervisor_end_too(supervisor: Supervisor) -> None:
    children = supervisor.children().values()
    supervisor.process.kill()
    wait_until(lambda: not any(map(alive, children)), "the children to end")
    assert supervisor.log.read_text().count('"stopped"') == 3


def test_a_service_that_cannot_start_ends_all(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    (bundle / "users.json").write_text("[]")
    supervisor = Supervisor(tmp_path, bundle)
    supervisor.process.communicate(timeout=PATIENCE)
    assert supervisor.process.returncode == 1
    assert "process ended with exit code 1; its log says more" in supervisor.log.read_text()
    assert "users.json is not the file" in supervisor.log.read_text()


def test_sigterm_while_it_starts(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, write_tiny_bundle(tmp_path))
    parent = supervisor.process.pid
    listing = Path(f"/proc/{parent}/task/{parent}/children")
    wait_until(lambda: bool(listing.read_text()), "a child to be started")
    children = [int(child) for child in listing.read_text().split()]
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.process.communicate(timeout=PATIENCE)
    assert supervisor.process.returncode == 0
    assert not any(map(alive, children))
