"""Several processes, as torchrun starts them, train one model of either kind."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[3]
SCRIPT = """
import importlib, os, sys
from pathlib import Path
from safetensors.torch import save_file
state, _ = importlib.import_module(sys.argv[1]).train_here(Path(sys.argv[2]))
own = Path(sys.argv[2]) / f"rank{os.environ['RANK']}.safetensors"
save_file({name: weights.clone() for name, weights in state.items()}, own)
"""


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["test_item_training", "test_generator_training"])
def test_two_processes_train_one_model(tmp_path: Path, trainer: str) -> None:
    module = f"tests.offline.generator.{trainer}"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *(str(script), module, str(tmp_path)),
        ],
        env={
            **os.environ,
            "PYTHONPATH": f".:{os.environ.get('PYTHONPATH', '')}",
            "OMP_NUM_THREADS": "1",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    alone, _ = importlib.import_module(module).train_here()
    assert first.keys() == second.keys() == alone.keys()
    for name, weights in first.items():
        assert torch.equal(weights, second[name]), name
    # Two half batches a step are another training than one process's.
    assert any(not torch.equal(weights, alone[name]) for name, weights in first.items())
