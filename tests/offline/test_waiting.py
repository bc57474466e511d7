"""Training beside other work on the same cores."""

import os
import subprocess
import sys

import pytest

PRINT_WAITING = "print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
BEFORE_TORCH = f"import offline, os, sys; assert 'torch' not in sys.modules; {PRINT_WAITING}"
AND_TORCH = (
    f"import offline.training.trainer, os, sys; assert 'torch' in sys.modules; {PRINT_WAITING}"
)


@pytest.mark.parametrize(
    ("program", "given", "used"),
    [
        (AND_TORCH, {}, ["passive", "10000"]),
        (BEFORE_TORCH, {}, ["passive", "10000"]),
        (BEFORE_TORCH, {"GOMP_SPINCOUNT": "7"}, ["passive", "7"]),
        (BEFORE_TORCH, {"OMP_WAIT_POLICY": "active"}, ["active", "None"]),
        (BEFORE_TORCH, {"OMP_WAIT_POLICY": "passive"}, ["passive", "None"]),
    ],
    ids=["torch", "default", "turns", "active", "passive"],
)
def test_threads_spin_briefly_unless_told_otherwise(
    program: str, given: dict[str, str], used: list[str]
) -> None:
    waiting = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {k: v for k, v in os.environ.items() if k not in waiting} | given
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == used
