"""What the processes hold in memory: each item, each user, and each process beside these.

    python -m bench.memory --bundle bundles/ml-100k/current

An item and a user are what a fresh process grows by when it loads a bundle of so many more: all of
it, Python's objects and what the allocator keeps. Items have titles and texts of some 60 characters
and three attributes, codes of four tokens. A process is one of `tandem serve` after calls, in the
system's count of what is its own (`Anonymous`) and with its share of mapped files (`Pss`).

`rerank` is by how much a run of 8 calls of 1,000 items each raises the peak, where the batcher
divides it, with T5-small's heads and vocabulary.
"""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bench.catalog import item
from bench.generator import MODEL
from bench.lib.ghz import RECOMMEND, Load, find_ghz
from bench.lib.held import proc_bytes
from bench.lib.random_model import code_texts, random_levels
from bench.lib.report import publish, run, served_precision
from bench.lib.requests import load_requests, write
from bench.lib.stack import serving
from core.bundle import Bundle
from core.catalog import Catalog
from offline.generator.tokens.model import PRESETS

FEW, MANY = 1_000, 51_000
CODES: Final = {2: (160,) * 2, 3: (256,) * 3, 4: (100,) * 4}
"""How many values each level has, by the length of codes."""
SERVICES: Final = ("candidate", "generator", "gateway")
TABLE: Final = (
    ("memory", *SERVICES),
    ("an item, bytes", *(f"{{{name}_bytes_per_item:,.0f}}" for name in SERVICES)),
    ("a user, bytes", *(f"{{{name}_bytes_per_user:,.0f}}" for name in SERVICES)),
    ("the process, MB: its own", *(f"{{{name}_anonymous_mb:.0f}}" for name in SERVICES)),
    ("with its share of files", *(f"{{{name}_pss_mb:.0f}}" for name in SERVICES)),
    *(
        (f"8 `Rerank` of 1,000, codes of {length}: MB more", "", f"{{rerank_{length}_mb:.0f}}", "")
        for length in CODES
    ),
)  # fmt: skip

Figures = dict[str, float]


def measure_growth(directory: Path) -> Figures:
    """Bytes of an item and of a user, in each service."""
    sizes = {"few": (FEW, 0), "items": (MANY, 0), "users": (FEW, MANY - FEW)}
    bundles = {
        name: _bundle(directory / name, (64,) * 4, items, users, PRESETS["tiny"])
        for name, (items, users) in sizes.items()
    }
    figures: Figures = {}
    for service in SERVICES:
        held = {name: _in_a_child(service, path) for name, path in bundles.items()}
        for more in ("item", "user"):
            grown = held[f"{more}s"] - held["few"]
            figures[f"{service}_bytes_per_{more}"] = grown / (MANY - FEW)
    return figures


def measure_rerank(directory: Path) -> Figures:
    """MB that reranking takes for a moment, by the length of codes."""
    shape = {**MODEL.shape, "num_layers": 1, "num_decoder_layers": 1}  # the peak is one layer's
    return {
        f"rerank_{length}_mb": _in_a_child(
            "rerank",
            _bundle(directory / f"codes{length}", widths, 20_000, 0, shape, vocabulary=32_128),
        )
        for length, widths in CODES.items()
    }


def measure_processes(path: Path, seconds: float) -> Figures:
    """MB of each process that serves a bundle, after some seconds of calls."""
    requests = write("memory", load_requests(Bundle.open(path, verify=False))["recommend-fuse"])
    with ExitStack() as opened:
        services = {n: opened.enter_context(serving(n, path)) for n in SERVICES[:2]}
        targets = {f"TANDEM_{n.upper()}_TARGET": p.address for n, p in services.items()}
        where = targets | {"TANDEM_HISTORY": "bundle"}
        services["gateway"] = opened.enter_context(serving("gateway", path, environment=where))
        Load(RECOMMEND, requests, seconds).run(services["gateway"].address)
        return {
            f"{name}_{key.lower()}_mb": proc_bytes(f"{process.process.pid}/smaps_rollup", key) / 1e6
            for name, process in services.items()
            for key in ("Anonymous", "Pss")
        }


def _bundle(
    directory: Path,
    widths: tuple[int, ...],
    items: int,
    users: int,
    shape: Any,
    vocabulary: int = 0,
) -> Path:
    directory.mkdir()
    text = "some sixty characters, as the texts of a shop's items have"
    catalog = Catalog([replace(item(n), title=f"{n} {text}", text=text) for n in range(items)])
    model = replace(
        MODEL, shape=shape, widths=widths, precisions=("fp32",), vocabulary=vocabulary,
        prompt_tokens=24,
    )  # fmt: skip
    texts = code_texts(random_levels(widths, items))
    return model.export(directory, catalog, texts, [f"user-{n}" for n in range(users)]).bundle.path


def _in_a_child(name: str, bundle: Path) -> float:
    command = [sys.executable, "-m", "bench.lib.held", name, str(bundle)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(
    bundle: Annotated[Path, typer.Option(help="That the processes serve.")] = Path(
        "bundles/ml-100k/current"
    ),
    seconds: Annotated[float, typer.Option(help="Of calls, before processes are measured.")] = 5.0,
) -> None:
    """Measure memory."""
    find_ghz()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure_growth(Path(directory)) | measure_rerank(Path(directory))
    figures |= measure_processes(bundle, seconds)
    opened = Bundle.open(bundle, verify=False)
    publish(
        "memory", figures, TABLE, precision=served_precision(opened), caches="warm",
        bundle=opened.version,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
