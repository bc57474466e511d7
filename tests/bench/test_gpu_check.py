"""`make gpu-check`, rehearsed on the CPU."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench.gpu_check import STAGES, app
from bench.results.stages import stages_of
from tests.bench.shop import shop_config, shop_source
from tests.pipeline.conftest import USERS, write_shop


def test_a_rehearsal_writes_a_table_and_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = write_shop(tmp_path).root
    data = tmp_path / "data"
    data.mkdir()
    stages = stages_of(shop_source(root), shop_config(root), tmp_path / "work")
    made = {stage: stages.stage(stage).path for stage in STAGES}
    for stage, path in made.items():
        path.rename(data / stage)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [str(data), "--rehearse", "--minutes", "0.1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert {file.name for file in out.iterdir()} == {"gpu_check.json", "gpu_check.md"}
    figures = json.loads((out / "gpu_check.json").read_text())
    assert figures["quality"]["users"] == USERS
    (served,) = figures["serving"]
    assert (served["device"], served["precision"]) == ("CPUExecutionProvider", "fp32")
    # The exported graphs find what the model itself ranks highest.
    assert served["users"] == USERS
    assert served["hr@10"] == pytest.approx(figures["quality"]["hr@10"], abs=1 / USERS)
    assert "CPUExecutionProvider, fp32" in (out / "gpu_check.md").read_text()


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert done.exit_code == 2
    assert "--rehearse" in done.output
