"""The local server's life, with an engine that is made up and a model that says one thing."""

import asyncio
import hashlib
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from offline.enrich import local
from offline.enrich.endpoint import Endpoint, EndpointError
from offline.enrich.local import fetch_engine, local_config, running
from offline.wheel_model import ModelFetchError
from tests.offline.enrich.fake_endpoint import described
from tests.processes import PATIENCE, REPOSITORY, wait_until

ENGINE = """
import http.server, json, threading, types

def CommonParams():
    threads = lambda: types.SimpleNamespace()
    return types.SimpleNamespace(
        model=types.SimpleNamespace(), cpuparams=threads(), cpuparams_batch=threads())

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": open(MODEL).read()}}], "id": "1", "created": 0,
            "object": "chat.completion", "model": asked["model"]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

class Server:
    def __init__(self, settings):
        global MODEL
        MODEL = settings.model.path
        open(MODEL).close()
        server = http.server.ThreadingHTTPServer((settings.hostnames[0], settings.port), Answer)
        threading.Thread(target=server.serve_forever).start()
        self.listening_address = "http://127.0.0.1:%d" % server.server_port
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    package = tmp_path / "engine" / "xllamacpp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(ENGINE)
    return package.parent


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.gguf"
    file.write_text(described("local"))
    return file


def listens(address: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(address).port or 0)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_local_server_answers_and_ends_with_its_use(engine: Path, model: Path) -> None:
    async def ask(address: str) -> str:
        async with Endpoint(local_config(address)) as endpoint:
            stored = await endpoint.describe("x")
        assert stored.answer is not None
        return stored.answer.text

    with running(engine, model, 2) as address:
        assert asyncio.run(ask(address)) == "local it is. kind. For all."
    assert not listens(address)


def test_a_local_server_survives_no_kill(engine: Path, model: Path) -> None:
    script = (
        "from pathlib import Path; import time\n"
        "from offline.enrich.local import running\n"
        f"with running(Path({str(engine)!r}), Path({str(model)!r}), 1) as address:\n"
        "    print(address, flush=True); time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        address = user.stdout.readline().strip()
        assert listens(address)
        user.kill()
        user.wait(PATIENCE)
        wait_until(lambda: not listens(address), "the server to end")


def test_a_server_that_does_not_start_says_why(engine: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    with (
        pytest.raises(EndpointError, match=r"did not start: FileNotFoundError.*missing\.gguf"),
        running(engine, missing, 1),
    ):
        """Not reached."""


def test_an_engine_is_unpacked_once_and_only_as_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "engine.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("xllamacpp/__init__.py", ENGINE)
    downloads = []

    def download(requirement: str, _: Path) -> Path:
        downloads.append(requirement)
        return wheel

    with pytest.raises(ModelFetchError, match="not one that is known"):
        fetch_engine(tmp_path / "cache", download)
    assert list((tmp_path / "cache").iterdir()) == []
    known = frozenset({hashlib.sha256(wheel.read_bytes()).hexdigest()})
    monkeypatch.setattr(local, "ENGINE_SHA256", known)
    for _ in range(2):
        folder = fetch_engine(tmp_path / "cache", download)
        assert (folder / "xllamacpp" / "__init__.py").read_text() == ENGINE
    assert downloads == [local.ENGINE] * 2
