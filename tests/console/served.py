"""The three real servers and consoles in front of them, beside tests that are sync."""

import asyncio
import http.client
import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import gateway.main
from console.main import serving
from console.settings import ConsoleSettings
from gateway.settings import GatewaySettings
from serving.testing import hosted
from tests.pipeline.stack import running
from tests.processes import PATIENCE
from tests.serving.security.credentials import KeysFile

ALL = ("recommend", "similar", "events", "history", "catalog", "admin", "delete-user")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """That of an error by REST."""
        return str(self.json["error"]["details"][0]["reason"])

    @property
    def cookie(self) -> str:
        """What to send back, as a browser would."""
        jar = SimpleCookie(self.headers["set-cookie"])
        return "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items())


def ask(
    address: str,
    path: str,
    *,
    method: str = "",
    body: bytes | None = None,
    form: Mapping[str, str] | None = None,
    json_: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Makes a request, on a connection of its own."""
    sent = {**(headers or {})}
    if form is not None:
        body = urlencode(form).encode()
        sent.setdefault("content-type", "application/x-www-form-urlencoded")
    if json_ is not None:
        body = json.dumps(json_).encode()
        sent.setdefault("content-type", "application/json")
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


@dataclass(frozen=True)
class Stack:
    """What serves, and where."""

    addresses: Mapping[str, str]
    """Of the three servers."""
    open: str
    """The console in front of them, who ask nobody for a key."""
    keyed: str
    """The console in front of a gateway that has keys."""
    keyed_gateway: str
    keys: Mapping[str, str]
    """`operator`, who may do everything, and `guest`, who may ask for recommendations."""


@asynccontextmanager
async def stack(bundle: Path, directory: Path) -> AsyncIterator[Stack]:
    """Serves a bundle, and consoles in front of it."""
    keys = KeysFile(directory / "keys.toml")
    keys.add("operator", ALL)
    keys.add("guest", ["recommend"])
    async with AsyncExitStack() as opened:
        hosts = await opened.enter_async_context(running(bundle, store=directory / "items.db"))
        at = hosts.addresses
        front = GatewaySettings(
            bundle=bundle,
            port=0,
            history="bundle",
            keys_file=keys.path,
            metrics_port=0,
            candidate_target=at["candidate"],
            generator_target=at["generator"],
        )
        host, keyed = await opened.enter_async_context(hosted(front, gateway.main.service(front)))
        shown: dict[str, Any] = {"port": 0, "bundles": bundle.parent.parent}
        metrics = f"127.0.0.1:{host.telemetry.port}"
        consoles = (
            ConsoleSettings(**(shown | at)),
            ConsoleSettings(**shown, gateway=keyed, metrics=metrics),
        )
        first, second = [await opened.enter_async_context(serving(each)) for each in consoles]
        yield Stack(at, first, second, keyed, keys.keys)


class Served:
    """Runs a stack on a thread of its own."""

    def __init__(self, bundle: Path, directory: Path) -> None:
        self.stack: Stack
        self._bundle, self._directory = bundle, directory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Stack:
        self._thread.start()
        assert self._ready.wait(PATIENCE * 2)
        return self.stack

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with stack(self._bundle, self._directory) as self.stack:
            self._ready.set()
            await self._stopping.wait()
