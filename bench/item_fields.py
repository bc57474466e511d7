"""What `item_fields` adds to the latency of a call that returns ten items.

    python -m bench.item_fields --bundle bundles/ml-100k/current

One caller asks the running services for each user twice, with and without titles and attributes, in
an order that changes from user to user, so that a machine that drifts slows both. The figure is the
ratio of the two medians, with the 95% interval of a bootstrap over users; `similar` is
`SimilarItems` of one item.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.lib.report import environment, write_report
from core.bundle import Bundle
from offline.evaluate.served import serving
from tandem import Client
from tandem.requests import FieldName

FIELDS: Final[tuple[FieldName, ...]] = ("title", "attributes")
WARM: Final = 20
"""Users whose calls are not counted."""
SECONDS: Final = 10.0
RESAMPLES: Final = 2_000

Call = Callable[[Sequence[FieldName]], object]


def main() -> None:
    """Prints a table, and writes `build/bench/item_fields.json`."""
    options = _parse()
    bundle = Bundle.open(options.bundle, verify=False)
    users = list(bundle.histories.user_index)[: options.users + WARM]
    figures: dict[str, float] = {}
    table = Table("ten items", "p50 ms", "with fields", "ratio", "95%", box=None)
    with serving(options.bundle) as addresses, Client(addresses["gateway"]) as client:
        for name, calls in _workloads(client, bundle, users).items():
            times = np.array([_pair(call, turn) for turn, call in enumerate(calls)])[WARM:]
            plain, described = np.median(times, axis=0)
            low, high = _interval(times)
            figures |= {f"{name}_p50_ms": plain, f"{name}_ratio": described / plain}
            cells = (f"{plain:.2f}", f"{described:.2f}", f"{described / plain:.3f}")
            table.add_row(name, *cells, f"{low:.3f} to {high:.3f}")
    Console().print(table)
    write_report("item_fields", figures, environment() | {"bundle": bundle.version})


def _workloads(client: Client, bundle: Bundle, users: Sequence[str]) -> dict[str, list[Call]]:
    """The calls of each workload, one for each user."""

    def recommend(user: str, strategy: str) -> Call:
        return lambda fields: client.recommend(
            user,
            strategy=strategy,  # type: ignore[arg-type]
            item_fields=fields,
            forbid_degraded=True,
            timeout=SECONDS,
        )

    def similar(item_id: str) -> Call:
        return lambda fields: client.similar_items([item_id], item_fields=fields, timeout=SECONDS)

    items = bundle.catalog.ids(range(min(len(users), len(bundle.catalog))))
    return {
        strategy: [recommend(user, strategy) for user in users]
        for strategy in ("embedding", "rerank", "generate", "fuse")
    } | {"similar": [similar(item_id) for item_id in items]}


def _pair(call: Call, turn: int) -> tuple[float, float]:
    """Milliseconds without and with the fields."""
    times = {}
    for fields in ((), FIELDS) if turn % 2 else (FIELDS, ()):
        started = time.perf_counter()
        call(fields)
        times[bool(fields)] = (time.perf_counter() - started) * 1e3
    return times[False], times[True]


def _interval(times: NDArray[np.float64]) -> tuple[float, float]:
    """Of the ratio of the medians; `times` is [pairs, 2]."""
    rng = np.random.default_rng(0)
    medians = np.median(times[rng.integers(len(times), size=(RESAMPLES, len(times)))], axis=1)
    low, high = np.quantile(medians[:, 1] / medians[:, 0], (0.025, 0.975))
    return float(low), float(high)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.item_fields",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ml-100k/current"))
    parser.add_argument("--users", type=int, default=400, help="that are asked for")
    return parser.parse_args()


if __name__ == "__main__":
    main()
