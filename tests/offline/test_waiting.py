"""Training beside other work on the same cores."""

import os
import subprocess
import sys

import pytest

PRINT_WAITING = (
    "import offline.training.trainer, os, sys; assert 'torch' in sys.modules; "
    "print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, ["passive", "10000"]),
        ({"GOMP_SPINCOUNT": "7"}, ["passive", "7"]),
        ({"OMP_WAIT_POLICY": "active"}, ["active", "None"]),
        ({"OMP_WAIT_POLICY": "passive"}, ["passive", "None"]),
    ],
)
def test_threads_spin_briefly_unless_told_otherwise(given: dict[str, str], used: list[str]) -> None:
    waiting = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {k: v for k, v in os.environ.items() if k not in waiting} | given
    command = [sys.executable, "-c", PRINT_WAITING]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == used
