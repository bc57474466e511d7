"""The process: how it starts, what it refuses to, and how it ends."""

import asyncio
import http.client
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from console.main import bind, serving
from console.settings import ConsoleSettings
from core.errors import SettingsError
from serving.settings import load_settings
from tests.authority import Authority
from tests.console.served import ask
from tests.processes import PATIENCE, Server, servers, wait_until

NOWHERE = "127.0.0.1:1"


def console(directory: Path, **flags: object) -> Server:
    return Server("console", ["cli.main", "console"], directory, {"gateway": NOWHERE, **flags})


def test_what_is_in_flight_is_answered_before_it_ends(tmp_path: Path) -> None:
    server = console(tmp_path)
    with servers(server):
        server.start()
        connection = http.client.HTTPConnection(server.address, timeout=PATIENCE)
        connection.putrequest("POST", "/v1/recommendations")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "2")
        connection.endheaders()
        assert ask(f"http://{server.address}", "/healthz").status == 200
        server.send(signal.SIGTERM)
        wait_until(lambda: any(line["event"] == "draining" for line in server.lines()), "SIGTERM")
        connection.send(b"{}")
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        assert (answer.status, "SERVICE_UNAVAILABLE" in body) == (503, True)
        assert NOWHERE not in body
        assert server.exit_code() == 0
    assert [line["event"] for line in server.lines()][-1] == "stopped"


def test_a_page_says_that_no_gateway_answers(tmp_path: Path) -> None:
    server = console(tmp_path)
    with servers(server):
        server.start()
        address = f"http://{server.address}"
        assert ask(address, "/").status == 200
        page = ask(address, "/?user=ann")
        assert (page.status, "the gateway does not answer" in page.text) == (503, True)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    server = console(tmp_path)
    with servers(server):
        server.start()
        # In a process of its own, because a server sets up the logging of its process.
        command = [sys.executable, "-m", "cli.main", "console", "--port", str(server.port)]
        refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 1
    assert "cannot listen on 127.0.0.1" in refused.stderr


@pytest.mark.parametrize(
    "given",
    [
        {"gateway": "nowhere"},
        {"gateway": "a:1,b:2"},
        {"metrics": "9464"},
        {"tls_certificate": "a.pem"},
        {"session_key_file": "none"},
        {"session_hours": 0},
        {"bundle": "bundles/x"},
    ],
)
async def test_what_is_impossible_is_refused(given: dict[str, object]) -> None:
    with pytest.raises((SettingsError, ValueError)):
        async with serving(ConsoleSettings(port=0, **given)):  # type: ignore[arg-type]
            pytest.fail("it started")


def test_a_file_for_all_is_for_the_console_too(tmp_path: Path) -> None:
    file = tmp_path / "tandem.toml"
    file.write_text(
        'bundle = "nowhere"\nlog_level = "warning"\nhost = "::1"\n'
        "[gateway]\nport = 1\n[console]\nport = 2\n"
    )
    settings = load_settings(ConsoleSettings, {}, config=file)
    assert (settings.port, settings.host, settings.log_level) == (2, "::1", "warning")
    file.write_text("[console]\nmax_batch = 1\n")
    with pytest.raises(SettingsError, match=r"unknown key 'console.max_batch'"):
        load_settings(ConsoleSettings, {}, config=file)


def shown(address: str, authority: Path) -> dict[str, object]:
    """The certificate that a server shows, which has to be good, and the cookie of a sign-out."""
    context = ssl.create_default_context(cafile=str(authority))
    place = urlsplit(address).netloc
    connection = http.client.HTTPSConnection(place, timeout=PATIENCE, context=context)
    try:
        connection.request("POST", "/sign-out", b"")
        answer = connection.getresponse()
        answer.read()
        return {
            "certificate": connection.sock.getpeercert(binary_form=True),
            "cookie": answer.getheader("set-cookie") or "",
        }
    finally:
        connection.close()


def test_certificates_are_exchanged_without_a_restart(tmp_path: Path) -> None:
    authority = Authority()
    trusted = authority.write(tmp_path)
    certificate, key = authority.issue("console").write(tmp_path, "console")
    server = console(tmp_path, **{"tls-certificate": certificate, "tls-key": key})
    with servers(server):
        address = f"https://{server.start().address}"
        before = shown(address, trusted)
        assert str(before["cookie"]).startswith("__Host-tandem-console=")
        assert "Secure" in str(before["cookie"])
        authority.issue("console").write(tmp_path, "console")
        wait_until(
            lambda: shown(address, trusted)["certificate"] != before["certificate"],
            "the new certificate",
        )


async def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Or each would take the 40 ms after which the other side acknowledges its head."""
    found = asyncio.Queue[int]()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        found.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()
        await writer.wait_closed()

    listener = bind(ConsoleSettings(port=0))
    async with await asyncio.start_server(connected, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await found.get()
        writer.close()
        await writer.wait_closed()
