"""Training beside other work on the same cores."""

import os
import subprocess
import sys

import pytest

PRINT_POLICY = (
    "import offline.training.trainer, os, sys; assert 'torch' in sys.modules; "
    "print(os.environ['OMP_WAIT_POLICY'])"
)


@pytest.mark.parametrize(("given", "used"), [(None, "passive"), ("active", "active")])
def test_threads_wait_passively_unless_told_otherwise(given: str | None, used: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    command = [sys.executable, "-c", PRINT_POLICY]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [used]
