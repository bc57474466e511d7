"""The contract is compared with the released one: what a caller relies on does not go away."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).parents[2] / "protos"
BUF = Path(sys.executable).with_name("buf")

pytestmark = pytest.mark.skipif(not BUF.exists(), reason="buf is not installed")


def broken(protos: Path) -> str:
    """What `make lint` says of a contract beside the released one; nothing where it may stay."""
    image = subprocess.run(
        [BUF, "build", "-o", "-"], cwd=protos, capture_output=True, check=True
    ).stdout
    found = subprocess.run(
        [BUF, "breaking", "-", "--against", PROTOS / "released.binpb"],
        cwd=protos,
        input=image,
        capture_output=True,
        check=False,
    )
    return found.stdout.decode()


def test_nothing_of_the_released_contract_is_gone() -> None:
    assert not broken(PROTOS)


def test_a_field_that_goes_away_is_named(tmp_path: Path) -> None:
    protos = shutil.copytree(PROTOS, tmp_path / "protos")
    file = protos / "tandem" / "v1" / "common.proto"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("  bool include_seen = 4;\n", ""), encoding="utf-8")
    assert 'field "4" with name "include_seen" on message "ItemConstraints" was deleted' in broken(
        protos
    )
