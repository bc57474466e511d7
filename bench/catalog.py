"""The live catalog in memory: tries, filters and changes of a million items, without any model.

    python -m bench.catalog --help

Two kinds of codes of four tokens: `full`, where most prefixes have many items, and `lone`, as
semantic codes are, where hardly any last token has a sibling. Figures are medians of one thread.
"""

import gc
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.report import environment, write_report
from core.catalog import AttributeValues, Catalog, CatalogItem, Change, Delete, Upsert
from core.filters import AllOf, OneOf, Range, evaluate
from services.generator.catalog.coded import CodedCatalog, CodedChange, CodedUpsert
from services.generator.decoding.trie import Trie

CHANGES: Final = 1_000
NOTHING = np.empty(0, dtype=np.int32)

Codes = NDArray[np.int32]


def full_codes(items: int) -> Codes:
    """Distinct codes that share most of their prefixes. Shape [items, 4]."""
    width = int(np.ceil((items * 1.04) ** 0.25))
    numbers = np.random.default_rng(0).permutation(width**4)[:items]
    return np.stack(np.unravel_index(numbers, (width,) * 4), axis=1).astype(np.int32) + 3


def lone_codes(items: int) -> Codes:
    """Distinct codes most of which are alone below their first three tokens. Shape [items, 4]."""
    rng = np.random.default_rng(0)
    drawn = np.unique(rng.integers(3, 259, (items + items // 10, 4)).astype(np.int32), axis=0)
    return rng.permutation(drawn)[:items]


def item(number: int) -> CatalogItem:
    """A made-up item, with two genres, a year and a price."""
    attributes: dict[str, AttributeValues] = {
        "genre": (f"g{number % 20}", f"g{number * 7 % 23}"),
        "year": (1950.0 + number % 75,),
        "price": (number * 31 % 9_973 / 100,),
    }
    return CatalogItem(f"item_{number}", f"Item {number}", "text", attributes, number % 100)


def milliseconds(work: Callable[[], object], rounds: int = 9) -> float:
    """The median time of a call."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def trie_figures(codes: Codes) -> dict[str, float]:
    """Building a trie, changing it, and marking what a request allows."""
    items = len(codes)
    rng = np.random.default_rng(1)
    live = np.arange(items) < items - CHANGES
    trie = Trie.build(codes, live)
    gone = rng.choice(items - CHANGES, CHANGES, replace=False).astype(np.int32)
    added = np.flatnonzero(~live).astype(np.int32)
    half, hundredth = (rng.random(items) < share for share in (0.5, 0.01))
    denied = rng.integers(0, items, 10_000).astype(np.int32)
    return {
        "build_ms": milliseconds(lambda: Trie.build(codes), rounds=3),
        "bytes": trie.nbytes,
        "replace_1000_ms": milliseconds(lambda: trie.replaced(codes, gone, added)),
        "alive_filter_50pct_ms": milliseconds(lambda: trie.alive(half, NOTHING)),
        "alive_filter_1pct_ms": milliseconds(lambda: trie.alive(hundredth, NOTHING)),
        "alive_deny_10k_ms": milliseconds(lambda: trie.alive(None, denied)),
        "alive_everything_ms": milliseconds(lambda: trie.alive(None, NOTHING)),
        "prefixes_1000_ms": milliseconds(lambda: trie.prefixes(denied[:1000] % len(added))),
    }


def catalog_figures(catalog: Catalog) -> dict[str, float]:
    """Identifiers, filters, and changes of the catalog alone."""
    rng = np.random.default_rng(2)
    ids = [f"item_{number}" for number in rng.integers(0, len(catalog), 10_000)]
    genre, price = OneOf("genre", ("g1",)), Range("price", 10.0, 20.0)
    batch: list[Change] = [Upsert(item(len(catalog) + n)) for n in range(CHANGES // 2)]
    batch += [Delete(item_id) for item_id in ids[: CHANGES // 2]]
    return {
        "lookup_10k_ms": milliseconds(lambda: catalog.lookup(ids)),
        "filter_text_ms": milliseconds(lambda: evaluate(genre, catalog)),
        "filter_number_ms": milliseconds(lambda: evaluate(OneOf("year", (1999.0,)), catalog)),
        "filter_range_ms": milliseconds(lambda: evaluate(price, catalog)),
        "filter_both_ms": milliseconds(lambda: evaluate(AllOf((genre, price)), catalog)),
        "apply_1000_ms": milliseconds(lambda: catalog.apply(batch)),
    }


def batches(codes: Codes, first: int) -> Iterator[list[CodedChange]]:
    """Batches of new items, changed items and removed ones."""
    rng = np.random.default_rng(3)
    new = iter(range(first, len(codes)))
    while True:
        known = rng.choice(first, CHANGES, replace=False).tolist()
        upserts = [*known[: CHANGES // 2], *itertools.islice(new, CHANGES // 4)]
        yield [
            *(CodedUpsert(item(n), f"<{n}>", codes[n].tolist()) for n in upserts),
            *(Delete(f"item_{n}") for n in known[-CHANGES // 4 :]),
        ]


def change_figures(codes: Codes, catalog: Catalog, rounds: int) -> dict[str, float]:
    """Applying changes one after another, and how long that holds up another thread."""
    items = len(catalog)
    current = CodedCatalog.of(catalog, [f"<{n}>" for n in range(items)], codes[:items])
    gc.freeze()  # as a server does after its warm-up
    done = threading.Event()
    pauses: list[float] = []

    def watch() -> None:
        last = time.perf_counter()
        while not done.is_set():
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    times = []
    stream = batches(codes, items)
    for _ in range(rounds):
        batch = next(stream)
        started = time.perf_counter()
        current = current.apply(batch)
        times.append(time.perf_counter() - started)
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(rounds):
        current = current.apply(next(stream))
    done.set()
    watcher.join()
    return {
        "apply_1000_ms": statistics.median(times) * 1e3,
        "longest_pause_of_another_thread_ms": max(pauses) * 1e3,
    }


def main(
    items: Annotated[int, typer.Option(help="In the catalog.", min=10_000)] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="Batches of changes.")] = 9,
) -> None:
    """Measure the catalog and its trie."""
    figures = {f"trie_full_{k}": v for k, v in trie_figures(full_codes(items)).items()}
    figures |= {f"trie_lone_{k}": v for k, v in trie_figures(lone_codes(items)).items()}
    listed = [item(number) for number in range(items)]
    started = time.perf_counter()
    catalog = Catalog(listed)
    figures["catalog_build_ms"] = (time.perf_counter() - started) * 1e3
    figures |= {f"catalog_{k}": v for k, v in catalog_figures(catalog).items()}
    codes = full_codes(items + CHANGES * rounds)
    figures |= {f"coded_{k}": v for k, v in change_figures(codes, catalog, rounds).items()}
    figures = {name: round(value, 2) for name, value in figures.items()}
    table = Table(f"{items:,} items", "")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if name.endswith("ms") else f"{value:,.0f}")
    Console().print(table)
    Console().print(f"written to {write_report('catalog', figures, environment())}")


if __name__ == "__main__":
    typer.run(main)
