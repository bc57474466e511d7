"""What CI runs may skip nothing, but for hardware that is not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import REPOSITORY

CHIP = 'pytest.skip("absent hardware: no chip")'
TOOL = 'pytest.skip("no tool")'


@pytest.mark.parametrize(
    ("body", "code", "workers"), [(CHIP, 0, []), (TOOL, 1, ["--numprocesses", "2"])]
)
def test_a_skip_fails_unless_hardware_is_absent(
    tmp_path: Path, body: str, code: int, workers: list[str]
) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(f"import pytest\ndef test_one():\n    {body}\ndef test_two():\n    {CHIP}\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.skips", *workers, str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    *_, before, last = done.stdout.splitlines()
    assert " in " in last  # pytest's own closing line
    skips = done.stdout.splitlines()[-3:-1] if code else [before]
    chips = 2 if body == CHIP else 1
    assert f"NOT TESTED ({chips}): absent hardware: no chip" in skips
    assert ("MAY NOT BE SKIPPED (1): no tool" in skips) == bool(code)


def test_ci_lets_nothing_be_skipped() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert 'PYTEST_ADDOPTS="-p tests.skips" make test-all' in script
