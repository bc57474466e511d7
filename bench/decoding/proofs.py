"""How many lists are proved to be those of the scores of all items, by the number of beams.

    python -m bench.decoding.proofs --bundle bundles/ml-100k/current

Lists of ten for users of a bundle, without what they have seen. `same` are lists that hold the ten
best of all items, by `rerank.onnx`, which searches nothing: so many are right, and so many of those
are known to be. The last line searches on, with twice the beams each time, until a list is proved.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.progress import track

from bench.lib.report import publish, run
from core.bundle import Bundle
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    Ranked,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute
from services.generator.decoding.searching import MOST_BEAMS

ITEMS: Final = 10
WIDTHS: Final = (1, 2, 4, 8)
"""Times the beams that the bundle is served with."""

Figures = dict[str, float]


def questions(bundle: Bundle, count: int) -> list[RankingQuery]:
    """Some users, each once."""
    histories = bundle.histories
    users = np.random.default_rng(0).permutation(len(histories.user_index))[:count]
    found = []
    for user in users.tolist():
        seen = histories.items[histories.indptr[user] : histories.indptr[user + 1]]
        found.append(RankingQuery(UserContext(None, seen), Generation(ITEMS, None, seen)))
    return found


def best(engine: GeneratorEngine, query: RankingQuery) -> set[int]:
    """The ten best of all items that a user has not seen."""
    unseen = np.setdiff1d(
        np.arange(engine.snapshot.trie.items, dtype=np.int32), query.context.history
    )
    (ranked,) = engine.rerank([RankingQuery(query.context, shortlist=unseen)])
    return set(ranked.items[:ITEMS].tolist())


def searched(
    engine: GeneratorEngine, queries: Sequence[RankingQuery], beams: int
) -> tuple[list[Ranked], list[float]]:
    """Lists by so many beams, one call each, and the CPU milliseconds of each."""
    lists, times = [], []
    for query in track(queries, f"{beams} beams", transient=True):
        asked = RankingQuery(query.context, query.generation, beams=beams)
        began = time.process_time()
        lists += engine.generate([asked])
        times.append((time.process_time() - began) * 1e3)
    return lists, times


def proved(
    engine: GeneratorEngine, queries: Sequence[RankingQuery]
) -> tuple[list[Ranked], list[float], float]:
    """Lists that are searched on for, their CPU milliseconds, and their beams on average."""
    lists, times, beams = [], [], 0
    for query in track(queries, "searching on", transient=True):
        began, width = time.process_time(), engine.beams(ITEMS)
        (ranked,) = engine.generate([query])
        while not ranked.exact and width * 2 <= MOST_BEAMS:
            width *= 2
            asked = RankingQuery(query.context, query.generation, beams=width)
            (ranked,) = engine.generate([asked])
        times.append((time.process_time() - began) * 1e3)
        lists.append(ranked)
        beams += width
    return lists, times, beams / len(queries)


def figures_of(
    name: str, lists: Sequence[Ranked], times: Sequence[float], expected: Sequence[set[int]]
) -> Figures:
    """Shares of lists, and their cost."""
    same = [set(one.items.tolist()) == best for one, best in zip(lists, expected, strict=True)]
    return {
        f"proved_{name}": 100 * float(np.mean([one.exact for one in lists])),
        f"same_{name}": 100 * float(np.mean(same)),
        f"places_{name}": float(np.mean([one.proved for one in lists])),
        f"ms_{name}": float(np.median(times)),
    }


def main(
    bundle: Annotated[Path, typer.Option(help="Whose users and generator.")] = Path(
        "bundles/ml-100k/current"
    ),
    users: Annotated[int, typer.Option(help="At most.", min=1)] = 300,
    threads: Annotated[int, typer.Option(help="0 means one per core.")] = 0,
) -> None:
    """Measure what is proved, and at what cost."""
    threads = threads or len(os.sched_getaffinity(0))
    opened = Bundle.open(bundle, verify=False)
    engine = GeneratorEngine.load(opened, Compute(threads=threads), "fp32")
    queries = questions(opened, users)
    expected = [best(engine, query) for query in track(queries, "all items", transient=True)]
    served = engine.beams(ITEMS)
    searched(engine, queries[:10], served)  # warms
    figures: Figures = {}
    for beams in (served * width for width in WIDTHS):
        figures |= figures_of(str(beams), *searched(engine, queries, beams), expected)
    lists, times, average = proved(engine, queries)
    figures |= figures_of("on", lists, times, expected)
    figures["beams_on"] = average
    publish(
        "decoding.proofs", figures, table([served * width for width in WIDTHS]), precision="fp32",
        caches="warm", users=len(queries), threads=threads, bundle=opened.version,
    )  # fmt: skip


def table(widths: Sequence[int]) -> list[list[str]]:
    """A line a number of beams."""
    names = {str(beams): str(beams) for beams in widths}
    names["on"] = "until proved, {beams_on:.0f} on average"
    return [
        ["beams", "proved", "same", "places that are certain, of 10", "median CPU ms"],
        *(
            [
                name,
                f"{{proved_{key}:.0f}}%",
                f"{{same_{key}:.0f}}%",
                f"{{places_{key}:.1f}}",
                f"{{ms_{key}:.1f}}",
            ]
            for key, name in names.items()
        ),
    ]


if __name__ == "__main__":
    run(main)
