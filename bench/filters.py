"""What filters, diversity and edits of attributes cost, in the process, without any service.

    python -m bench.filters --items 300000

Processor time of one thread. `ranges` are 255 of one attribute, of which almost every item is in
each, as no request may send them to a catalog of this size; `again` is the same filter in the same
version of the catalog. `diversity` chooses a thousand of a thousand vectors. `edits` replaces the
attributes of 30 items of a small catalog over and over, and compares a range before and after.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np
import typer

from bench.lib.report import publish, run
from core.catalog import Catalog, CatalogItem, Update
from core.filters import AnyOf, Filter, OneOf, Range, marks
from core.mmr import most_marginal

CONDITIONS = 255
EDITED = 30
GENRES = 20


def main(
    items: Annotated[int, typer.Option(help="Of the catalog that is filtered.")] = 300_000,
    edits: Annotated[int, typer.Option(help="Of attributes, in all.")] = 120_000,
) -> None:
    """Measure filters, diversity and edits of attributes."""
    figures = {**_filters(items), **_diversity(), **_edits(edits)}
    publish("filters", figures, precision="none", caches="cold but for `again`", items=items)


def _filters(items: int) -> dict[str, float]:
    catalog = _catalog(items)
    wide = [Range("price", -1.0 - i, 101.0) for i in range(CONDITIONS)]
    narrow = [Range("price", i / 3, (i + 1) / 3) for i in range(CONDITIONS)]
    genres = [OneOf("genre", (f"g{i % GENRES}", f"none {i}")) for i in range(CONDITIONS)]
    filters: dict[str, Filter] = {
        "ranges_ms": AnyOf(tuple(wide)),
        "again_ms": AnyOf(tuple(wide)),
        "narrow_ranges_ms": AnyOf(tuple(narrow)),
        "genres_ms": AnyOf(tuple(genres)),
    }
    return {name: _ms(partial(marks, each, catalog)) for name, each in filters.items()}


def _diversity() -> dict[str, float]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1_000, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    relevance = np.sort(rng.random(1_000))[::-1]

    def at_once() -> object:
        return most_marginal(relevance, 1_000, 0.3, (vectors @ vectors.T).__getitem__)

    def by_row() -> object:
        return most_marginal(relevance, 1_000, 0.3, lambda place: vectors @ vectors[place])

    return {"diversity_ms": _ms(at_once, 5), "diversity_by_row_ms": _ms(by_row, 5)}


def _edits(edits: int) -> dict[str, float]:
    first = catalog = _catalog(3_000)
    for turn in range(edits // EDITED):
        catalog = catalog.apply(
            Update(_item(number, float((turn + number) % 100))) for number in range(EDITED)
        )
    before, after = (
        _ms(partial(version.within, "price", 10.0, 20.0), 1_000) for version in (first, catalog)
    )
    rows = float(len(catalog))
    return {"edited_rows": rows, "range_before_ms": before, "range_after_ms": after}


def _catalog(items: int) -> Catalog:
    prices = np.random.default_rng(0).random(items) * 100
    return Catalog(_item(number, price) for number, price in enumerate(prices.tolist()))


def _item(number: int, price: float) -> CatalogItem:
    genres = (f"g{number % GENRES}", f"g{number * 7 % GENRES}")
    return CatalogItem(f"i{number}", "", "", {"genre": genres, "price": (price,)}, 0)


def _ms(work: Callable[[], object], times: int = 1) -> float:
    """The quickest of several times."""
    taken = []
    for _ in range(times):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return min(taken) * 1e3


if __name__ == "__main__":
    run(main)
