"""Stages that are kept: by what goes into them, their code too, and with several builds at once."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from offline.build import code
from offline.build.cache import Inputs, StageBusyError, StageCache
from offline.build.code import code_of
from offline.build.files import RECORD, read_json
from offline.build.stages import STAGES

BUILDER = """
import sys
from pathlib import Path
from rich.console import Console
from offline.build.cache import StageCache

def make(out):
    (out / "first.txt").write_text("half")
    print("making", flush=True)
    sys.stdin.readline()
    (out / "second.txt").write_text("whole")

cache = StageCache(Path(sys.argv[1]), Console(), force="--force" in sys.argv)
print(cache.stage("thing", make, code="core.codes").path)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that make a stage, and go on with it when they are sent a line."""
    started: list[subprocess.Popen[str]] = []

    def run(*options: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(tmp_path), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def heard(process: "subprocess.Popen[str]", *, until: str) -> str:
    """What a process says until a line that has this in it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if until in line:
            break
    return "".join(lines)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_build_uses_what_another_is_making(start: Start, force: tuple[str, ...]) -> None:
    first = start()
    heard(first, until="making")
    second = start(*force)
    waits = heard(second, until="thing")
    assert f"is being made by process {first.pid} on " in waits
    made, _ = first.communicate("go on\n")
    used, _ = second.communicate()
    assert "making" not in used
    path = Path(used.split()[-1])
    assert path == Path(made.split()[-1])
    assert {file.name for file in path.iterdir()} == {"first.txt", "second.txt", RECORD}


def test_who_waited_for_a_build_that_is_killed_goes_on_with_it(start: Start) -> None:
    first = start()
    heard(first, until="making")
    second = start()
    heard(second, until="being made by")
    first.kill()
    heard(second, until="making")
    made, _ = second.communicate("go on\n")
    assert (Path(made.split()[-1]) / "second.txt").read_text() == "whole"


def cache_at(root: Path) -> StageCache:
    return StageCache(root, Console(quiet=True))


def test_torchruns_first_process_alone_keeps_what_all_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (partial,) = [tmp_path / f"{name}.partial" for name in [stage_name(tmp_path)]]
    partial.mkdir()
    (partial / "checkpoint").write_text("epoch 3")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def first_process(out: Path) -> None:
        (out / "model").write_text("kept")

    def second_process(out: Path) -> None:
        assert out != partial
        assert (out / "checkpoint").read_text() == "epoch 3"
        (out / "model").write_text("not kept")
        monkeypatch.setenv("RANK", "0")
        cache_at(tmp_path).stage("thing", first_process, code="core.codes", together=True)
        monkeypatch.setenv("RANK", "1")

    monkeypatch.setenv("RANK", "1")
    built = cache_at(tmp_path).stage("thing", second_process, code="core.codes", together=True)
    assert (built.path / "model").read_text() == "kept"


def test_torchruns_processes_do_not_wait_for_another_build(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start()
    heard(first, until="making")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StageBusyError, match=f"made by process {first.pid} on .* run this again"):
        cache_at(tmp_path).stage("thing", lambda _: None, code="core.codes", together=True)


def stage_name(root: Path) -> str:
    """The name of the directory of the stage that these tests make."""
    return f"thing-{Inputs(None, code_of('core.codes')).digest('thing')[:12]}"


def test_a_stage_is_made_again_after_what_it_reads_came_to_something_else(tmp_path: Path) -> None:
    made: list[str] = []

    def build(seed: int, text: str) -> None:
        def first(out: Path) -> None:
            made.append("first")
            (out / "text").write_text(text)

        cache = cache_at(tmp_path)
        earlier = cache.stage("first", first, settings=seed)
        cache.stage("second", lambda _: made.append("second"), after=(earlier,))

    build(0, "a")
    assert made == ["first", "second"]
    build(0, "a")
    assert made == ["first", "second"]
    build(1, "a")  # comes to the same
    assert made == ["first", "second", "first"]
    build(2, "b")
    assert made[3:] == ["first", "second"]


def test_a_stage_says_what_it_was_made_from(tmp_path: Path) -> None:
    built = cache_at(tmp_path).stage("thing", lambda _: None, settings={"seed": 3})
    record = read_json(built.path / RECORD)
    assert (record["settings"], record["after"]) == ({"seed": 3}, [])
    assert {__name__, "offline.build.cache", "numpy"} <= record["code"].keys()
    assert record["digest"] == built.digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A made-up code base: `offline.work` takes `helper` from a package that passes it on."""
    monkeypatch.setattr(code, "_ROOT", tmp_path)
    root = tmp_path / "offline"
    (root / "tools").mkdir(parents=True)
    (root / "work.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from offline.tools import helper\n"
        "if TYPE_CHECKING:\n"
        "    from offline.types import Name\n"
        "def work():\n"
        "    from core import late\n"
        "    return helper(late)\n"
    )
    (root / "types.py").write_text("Name = str\n")
    (root / "tools" / "__init__.py").write_text(
        "from offline.tools.hand import helper\nfrom offline.tools.other import more\n"
    )
    (root / "tools" / "hand.py").write_text("import numpy as np\ndef helper(x):\n    return x\n")
    (root / "tools" / "other.py").write_text("more = 1\n")
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "late.py").write_text("import json\n")
    code._read.cache_clear()
    yield root
    code._read.cache_clear()


def test_code_is_what_runs_wherever_it_is_imported(package: Path) -> None:
    found = code_of("offline.work")
    assert found.keys() == {"offline.work", "offline.tools.hand", "core.late", "numpy"}


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ("import numpy as np\ndef helper(x):\n    return x + 1\n", True),
        ("import numpy as np  # a comment\n\ndef helper(x):\n    'A word.'\n    return x\n", False),
    ],
)
def test_code_counts_and_what_is_said_of_it_does_not(
    package: Path, change: str, counts: bool
) -> None:
    before = code_of("offline.work")
    (package / "tools" / "hand.py").write_text(change)
    code._read.cache_clear()
    assert (code_of("offline.work") != before) is counts


def test_a_library_counts_by_its_version(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 99")
    assert code_of("offline.work")["numpy"] == "numpy 99"


def test_stages_run_their_own_code_and_no_declarations() -> None:
    codes = {stage.name: code_of(stage.make.__module__).keys() for stage in STAGES}
    assert "offline.generator.tokens.train" in codes["generator"]
    assert "services.generator.decoding.engine" in codes["export"]
    assert "offline.generator.items.model" not in codes["query-encoder"]
    for stage in STAGES:
        assert f"offline.build.stages.{stage.name.replace('-', '_')}" in codes[stage.name]
        assert not code.SETTLED & codes[stage.name]
        assert "offline.build.pipeline" not in codes[stage.name]
        assert not any(module.startswith("services.candidate.catalog") for module in codes["codes"])


def test_each_stage_needs_only_earlier_ones() -> None:
    for place, stage in enumerate(STAGES):
        if not callable(stage.needs):
            assert set(stage.needs) <= {earlier.name for earlier in STAGES[:place]}
