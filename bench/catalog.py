"""The generator's catalog in memory: tries and changes of a million items, without any model.

    python -m bench.catalog --help

Two kinds of codes of four tokens: `full`, where most prefixes have many items, and `lone`, as
semantic codes are, where hardly any last token has a sibling. Figures are medians of one thread.
"""

import gc
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray

from bench.lib.report import publish, run
from bench.lib.timing import milliseconds
from core.catalog import AttributeValues, Catalog, CatalogItem, Delete
from services.generator.catalog.coded import CodedCatalog, CodedChange, CodedUpsert
from services.generator.decoding.trie import Trie

CHANGES: Final = 1_000
TABLE: Final = (
    ("a million items, codes of 4 tokens", "shared prefixes", "lone last tokens"),
    *(
        (name, f"{{trie_full_{key}}}", f"{{trie_lone_{key}}}")
        for name, key in {
            "building the trie, ms": "build_ms:.0f",
            "its bytes": "bytes:,.0f",
            "the next after 1,000 changes, ms": "replace_1000_ms:.0f",
            "a filter that passes 50%, ms": "alive_filter_50pct_ms:.1f",
            "a filter that passes 1%, ms": "alive_filter_1pct_ms:.1f",
            "10,000 denials, ms": "alive_deny_10k_ms:.1f",
        }.items()
    ),
    ("1,000 changes of the catalog, ms", "{coded_apply_1000_ms:.0f}", ""),
    ("longest pause of another thread, ms",
     "{coded_longest_pause_of_another_thread_ms:.0f}", ""),
)  # fmt: skip
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

    made = iter(list(itertools.islice(batches(codes, items), 2 * rounds)))

    def change() -> None:
        nonlocal current
        current = current.apply(next(made))

    apply_ms = milliseconds(change, rounds)
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(rounds):
        change()
    done.set()
    watcher.join()
    return {"apply_1000_ms": apply_ms, "longest_pause_of_another_thread_ms": max(pauses) * 1e3}


def main(
    items: Annotated[int, typer.Option(help="In the catalog.", min=10_000)] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="Batches of changes.")] = 9,
) -> None:
    """Measure the catalog and its trie."""
    figures = {f"trie_full_{k}": v for k, v in trie_figures(full_codes(items)).items()}
    figures |= {f"trie_lone_{k}": v for k, v in trie_figures(lone_codes(items)).items()}
    catalog = Catalog([item(number) for number in range(items)])
    codes = full_codes(items + CHANGES * rounds)
    figures |= {f"coded_{k}": v for k, v in change_figures(codes, catalog, rounds).items()}
    publish("catalog", figures, TABLE, precision="none", caches="warm", items=items)


if __name__ == "__main__":
    run(main)
