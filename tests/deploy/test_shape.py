"""Sizes that keep the code readable: of functions, files and folders, and of import chains."""

import ast
import statistics
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = (
    "core",
    "serving",
    "services",
    "gateway",
    "console",
    "offline",
    "cli",
    "bench",
    "protos/tandem",
)
LONGEST_FUNCTION = 60
LONGEST_FILE = 320
FILES_IN_A_FOLDER = 14
IMPORT_LEVELS = 7


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                yield path


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def function_lengths() -> dict[str, int]:
    return {
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}": node.end_lineno
        - node.lineno
        + 1
        for path in sources()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.end_lineno is not None
    }


def test_functions_are_short() -> None:
    lengths = function_lengths()
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}
    assert statistics.median(lengths.values()) <= 10
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= 30


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {path: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_folders_hold_about_a_dozen_files() -> None:
    counts = Counter(path.parent for path in sources() if path.name != "__init__.py")
    assert {folder: n for folder, n in counts.items() if n > FILES_IN_A_FOLDER} == {}


def module_of(path: Path) -> str:
    inside = path.relative_to(REPOSITORY / "protos" if "protos" in path.parts else REPOSITORY)
    return ".".join(inside.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """What a module imports as it is loaded: modules, and names that may be modules."""
    for node in parse(path).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", sorted({path.parent for path in sources()}), ids=str)
def test_no_folder_has_long_chains_of_imports(folder: Path) -> None:
    # `__init__.py` passes names on, and is above what it passes on.
    files = [path for path in sources() if path.parent == folder and path.name != "__init__.py"]
    modules = {module_of(path): path for path in files}

    @cache
    def levels(module: str) -> int:
        inner = {name for name in imported(modules[module]) if name in modules} - {module}
        return 1 + max(map(levels, inner), default=0)

    deep = {module: levels(module) for module in modules if levels(module) > IMPORT_LEVELS}
    assert deep == {}
