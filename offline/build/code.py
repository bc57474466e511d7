"""What code a stage runs: a digest of each module that it imports, and the libraries' versions.

Imports are followed statically through Tandem's own packages, also those within functions. Of a
module counts what Python makes of it, so comments, docstrings and layout change nothing. A package
that only passes names on, such as `offline.dataset`, stands for the modules that the names come
from.
"""

import ast
import hashlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

PACKAGES: Final = ("bench", "core", "gateway", "offline", "services", "serving")
"""Whose imports are followed."""
SETTLED: Final = frozenset({"offline.build.config", "offline.build.stage"})
"""Modules that only declare stages: all that they decide is among a stage's settings."""
LIBRARIES: Final = {
    "faiss": ("faiss-cpu",),
    "gguf": ("gguf",),
    "numpy": ("numpy",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "peft": ("peft",),
    "scipy": ("scipy",),
    "sklearn": ("scikit-learn",),
    "tokenizers": ("tokenizers",),
    "torch": ("torch",),
    "transformers": ("transformers",),
}
"""The libraries that numbers depend on: their distributions, by the name that is imported."""
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: frozenset[str]
    """Modules of Tandem's, and the names of `LIBRARIES`."""


def code_of(module: str) -> dict[str, str]:
    """Everything that a module runs, itself included.

    Args:
        module: its dotted name.

    Returns:
        By module the digest of its code, and by library its version.
    """
    modules: dict[str, _Module] = {}
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in LIBRARIES:
            found |= library_versions(name)
        elif name not in modules and name not in SETTLED:
            modules[name] = _read(name)
            waiting += modules[name].imports
    return dict(sorted({**found, **{name: own.digest for name, own in modules.items()}}.items()))


def library_versions(*names: str) -> dict[str, str]:
    """The versions of the installed distributions of some of `LIBRARIES`, all by default."""
    versions = {}
    for name in names or LIBRARIES:
        for distribution in LIBRARIES[name]:
            try:
                versions[distribution] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
    return versions


@cache
def _read(name: str) -> _Module:
    tree = _parse(name)
    imports = frozenset(_followed(tree))
    digest = hashlib.sha256(ast.dump(_WithoutText().visit(tree)).encode())
    return _Module(digest.hexdigest()[:16], imports)


def _followed(tree: ast.Module) -> Iterator[str]:
    for node in _running(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _known(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield from _known(node.module, alias.name)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker looks at."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield from _running(child)


def _known(module: str, name: str = "") -> Iterator[str]:
    """The module that an import is about, if it counts: where the name comes from."""
    package = module.partition(".")[0]
    if package in LIBRARIES:
        yield package
    elif package in PACKAGES:
        yield _origin(module, name)


def _origin(module: str, name: str) -> str:
    """The module that defines what `from module import name` gives."""
    if _path(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    if _path(module) == _ROOT.joinpath(*module.split("."), "__init__.py"):
        for node in _parse(module).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if name == (alias.asname or alias.name) and node.module.startswith(PACKAGES):
                        return _origin(node.module, alias.name)
    return module


def _parse(name: str) -> ast.Module:
    path = _path(name)
    if path is None:
        raise ModuleNotFoundError(f"there is no module {name} under {_ROOT}", name=name)
    return ast.parse(path.read_text(encoding="utf-8"))


def _path(name: str) -> Path | None:
    base = _ROOT.joinpath(*name.split("."))
    places = (base.with_suffix(".py"), base / "__init__.py")
    return next((place for place in places if place.is_file()), None)


class _WithoutText(ast.NodeTransformer):
    """Removes what Python does not run: docstrings, of attributes too."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node
