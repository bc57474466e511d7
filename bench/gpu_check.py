"""`make gpu-check`: what a CPU cannot tell, in one sitting on a machine with CUDA.

    python -m bench.gpu_check --help

Trains a larger generator, evaluates it, and runs it on ONNX Runtime's CUDA provider. Each part has
its share of the time and stops when that is spent. Nothing is downloaded, and what is written is a
table, never weights.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from tokenizers import Tokenizer

from bench.lib.random_model import manifest
from bench.lib.report import environment
from bench.prove.scorers import GeneratorScorer
from bench.results.files import write_json, write_text
from bench.results.pages import markdown_table, share
from core.bundle import Bundle, write_bundle
from core.codes import read_code_texts
from core.errors import SettingsError
from core.manifest import Precision
from offline.build.config import BuildConfig, configure
from offline.build.drafts import write_catalog
from offline.build.generator.train import train_generator
from offline.build.stages.generator import GeneratorSettings
from offline.dataset import Dataset, Holdout
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.items.model import ItemT5
from offline.metrics import measure, ranks_from_lists, ranks_from_scores
from offline.training.deadline import OutOfTime, limited
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute, execution_providers

TRAINING, SCORING, SERVING = 0.55, 0.15, 0.2
"""Shares of the time; the rest is for loading and exporting."""
STAGES: Final = ("dataset", "embeddings", "query-encoder", "codes")
"""Of `tandem build`, which the generator is trained with."""
MOST_EPOCHS: Final = 60
BATCHES: Final = (1, 8, 32)
_SCORED_AT_ONCE: Final = 64
_LISTED: Final = 10

app = typer.Typer(add_completion=False)
Parts = Mapping[str, Path]


@dataclass
class Clock:
    """The time that the whole check has."""

    seconds: float
    spent: dict[str, float] = field(default_factory=dict)

    def rounds(self, share_of_time: float) -> Iterator[int]:
        """Counts as long as a share of the time lasts, at least once."""
        until = time.monotonic() + share_of_time * self.seconds
        number = 0
        while number == 0 or time.monotonic() < until:
            yield number
            number += 1

    def take(self, name: str, work: Callable[[], Any]) -> Any:
        """Does something and notes how long it took."""
        started = time.monotonic()
        result = work()
        self.spent[name] = time.monotonic() - started
        return result


@app.command(
    epilog="Example:  python -m bench.gpu_check build/gpu-data --out build/gpu-check\n\n"
    f"DATA holds what these stages of `tandem build` make, in folders {', '.join(STAGES)}."
)
def check(
    data: Annotated[Path, typer.Argument(help="The folder with stages of a build; see below.")],
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("build/gpu-check"),
    minutes: Annotated[float, typer.Option(help="For everything together.", min=0.1)] = 7.5,
    preset: Annotated[str, typer.Option(help="As in tandem build.")] = "small",
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="On the CPU, small and short: does it work at all?")
    ] = False,
) -> None:
    """Train a larger preset on a GPU, evaluate it, and serve it there: a table in eight minutes."""
    if not (rehearse or torch.cuda.is_available()):
        raise typer.BadParameter("torch sees no GPU here; --rehearse runs small on the CPU")
    config = configure("demo" if rehearse else preset, {})
    clock = Clock(seconds=60 * minutes)
    parts = {name: data / name for name in STAGES}
    with tempfile.TemporaryDirectory() as folder:
        figures = _check(parts, config, clock, Path(folder), rehearse=rehearse)
    figures |= {"seconds": clock.spent, "environment": environment() | _gpu()}
    write_json(out / "gpu_check.json", figures)
    write_text(out / "gpu_check.md", _page(figures))
    Console().print(f"[bold green]written[/]: {out / 'gpu_check.md'}")


def _check(
    parts: Parts, config: BuildConfig, clock: Clock, folder: Path, *, rehearse: bool
) -> dict[str, Any]:
    generator, epochs = _train(parts, config, clock, folder, 1 if rehearse else MOST_EPOCHS)
    data = Dataset.load(parts["dataset"])
    asked = data.holdout("test")
    quality = clock.take("evaluation", lambda: _evaluate(generator, data, config, clock))
    precisions: tuple[Precision, ...] = ("fp32",) if rehearse else ("fp32", "fp16")
    bundle = clock.take(
        "export", lambda: _export(parts, generator, data, config, precisions, folder)
    )
    try:
        compute = Compute(providers=execution_providers("cpu" if rehearse else "cuda"))
    except SettingsError as error:  # the figures of training are worth keeping
        return {"epochs": epochs, "quality": quality, "serving": [], "not served": str(error)}
    served = [
        clock.take(
            f"serving {precision}",
            partial(_serve, bundle, compute, precision, asked, clock, SERVING / len(precisions)),
        )
        for precision in precisions
    ]
    return {"epochs": epochs, "quality": quality, "serving": served}


def _train(
    parts: Parts, config: BuildConfig, clock: Clock, folder: Path, most: int
) -> tuple[Path, int]:
    """The directory of the generator, and its epochs: as many as there is time for."""

    def trained(epochs: int) -> Path:
        out = folder / f"epochs-{epochs}"
        out.mkdir()
        loop = config.generator.items.loop.model_copy(update={"epochs": epochs})
        items = config.generator.items.model_copy(update={"loop": loop})
        generator = config.generator.model_copy(update={"items": items})
        changed = config.model_copy(update={"generator": generator})
        train_generator(GeneratorSettings.of(changed), parts, out)
        return out

    first: Path = clock.take("first epoch", lambda: trained(1))
    left = TRAINING * clock.seconds - clock.spent["first epoch"]
    epochs = min(most, int(left / clock.spent["first epoch"]))
    if epochs < 2:
        return first, 1
    try:
        with limited(left / 60):
            return clock.take("training", lambda: trained(epochs)), epochs
    except OutOfTime:  # epochs got slower; the first is better than nothing
        return first, 1


def _evaluate(
    generator: Path, data: Dataset, config: BuildConfig, clock: Clock
) -> dict[str, float]:
    """Test metrics, filtered, of as many users as there is time for, in a random order."""
    scorer = GeneratorScorer.read(generator, data, config.generator.max_history)
    asked = data.holdout("test")
    order = np.random.default_rng(0).permutation(len(asked.users))
    ranks: list[NDArray[np.float64]] = []
    for number in clock.rounds(SCORING):
        part = order[number * _SCORED_AT_ONCE : (number + 1) * _SCORED_AT_ONCE]
        if not len(part):
            break
        histories = [asked.histories[i] for i in part]
        ranks.append(
            ranks_from_scores(scorer.scores(histories), asked.targets[part], seen=histories)
        )
    return _metrics(np.concatenate(ranks))


def _metrics(ranks: NDArray[np.float64]) -> dict[str, float]:
    row = measure("generator", "filtered", ranks, ("hr@10", "ndcg@10"))
    return {"users": row.users, **row.metrics}


def _export(
    parts: Parts,
    generator: Path,
    data: Dataset,
    config: BuildConfig,
    precisions: tuple[Precision, ...],
    folder: Path,
) -> Bundle:
    """A bundle of the generator alone."""
    codes = np.load(generator / "code_tokens.npy", allow_pickle=False)
    section = config.generator
    exported = GeneratorExport(
        tokenizer=Tokenizer.from_file(str(generator / "tokenizer.json")),
        code_texts=read_code_texts(parts["codes"] / "codes.txt"),
        codes=codes,
        prompts=(generator / "prompts.txt").read_text(encoding="utf-8"),
        max_input_tokens=section.max_input_tokens + section.max_history,
        max_history=section.max_history,
        beams=section.beams,
        precisions=precisions,
        content=np.load(parts["embeddings"] / "content_vectors.npy", allow_pickle=False),
        interactions=data.popularity(),
    )
    staged = folder / "staged"
    staged.mkdir()
    written = export_generator(ItemT5.load(generator / "model", codes), exported, staged)
    made = manifest(data.name, written, items=len(data.items), users=len(data.user_ids))
    with write_bundle(folder, made) as directory:
        write_catalog(data, directory)
        for file in staged.iterdir():
            shutil.move(file, directory / file.name)
    return Bundle.open(folder / made.name / made.version, verify=False)


def _serve(
    bundle: Bundle,
    compute: Compute,
    precision: Precision,
    asked: Holdout,
    clock: Clock,
    share_of_time: float,
) -> dict[str, Any]:
    """Quality of the lists, and milliseconds a batch by its size."""
    engine = GeneratorEngine.load(bundle, compute, precision)
    each = share_of_time / (len(BATCHES) + 1)
    places = []
    for number in clock.rounds(each):
        start = number * BATCHES[-1]
        if start >= len(asked.users):
            break
        lists = np.full((len(asked.targets[start : start + BATCHES[-1]]), _LISTED), -1, np.int32)
        for row, found in zip(
            lists, engine.generate(_queries(asked, start, BATCHES[-1])), strict=True
        ):
            row[: len(found.items)] = found.items
        places.append(ranks_from_lists(lists, asked.targets[start : start + len(lists)]))
    times = {}
    for batch in BATCHES:
        taken = []
        for number in clock.rounds(each):
            queries = _queries(asked, number * batch % max(1, len(asked.users) - batch), batch)
            started = time.perf_counter()
            engine.generate(queries)
            taken.append(time.perf_counter() - started)
        times[batch] = statistics.median(taken) * 1e3
    device = compute.providers[0]
    return {
        "device": device,
        "precision": precision,
        **_metrics(np.concatenate(places)),
        "ms": times,
    }


def _queries(asked: Holdout, start: int, count: int) -> list[RankingQuery]:
    """Some of the questions, as they are served."""
    return [
        RankingQuery(UserContext(None, history), Generation(_LISTED, None, history))
        for history in asked.histories[start : start + count]
    ]


def _gpu() -> dict[str, str]:
    if not torch.cuda.is_available():
        return {"torch": torch.__version__}
    return {"torch": torch.__version__, "gpu": torch.cuda.get_device_name()}


def _page(figures: Mapping[str, Any]) -> str:
    """The table."""
    quality = figures["quality"]
    rows = [["torch, every code", str(quality["users"]), *map(share, _pair(quality)), *[""] * 3]]
    rows += [
        [
            f"{served['device']}, {served['precision']}",
            str(served["users"]),
            *map(share, _pair(served)),
            *(f"{milliseconds:.1f}" for milliseconds in served["ms"].values()),
        ]
        for served in figures["serving"]
    ]
    header = ("", "users", "HR@10", "NDCG@10", *(f"ms, batch of {size}" for size in BATCHES))
    facts = [f"- epochs: {figures['epochs']}"]
    facts += [f"- not served: {figures['not served']}"] if "not served" in figures else []
    facts += [f"- {name}: {value:.1f} s" for name, value in figures["seconds"].items()]
    facts += [f"- {name}: {value}" for name, value in figures["environment"].items()]
    title = (
        "# The generator on a GPU\n\nTest items, filtered; lists by beam search but for torch's."
    )
    return "\n\n".join([title, markdown_table(header, rows), "\n".join(facts), ""])


def _pair(figures: Mapping[str, float]) -> tuple[float, float]:
    return figures["hr@10"], figures["ndcg@10"]


if __name__ == "__main__":
    app()
