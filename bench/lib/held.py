"""What a fresh process holds after loading something, without torch beside it.

    python -m bench.lib.held NAME BUNDLE

prints a figure of `FIGURES`; `bench.memory` starts it.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.bundle import Bundle
from gateway.history.bundle import BundleHistoryStore
from services.generator.batching import Limits, choose
from services.generator.decoding.engine import GeneratorEngine, RankingQuery, UserContext
from services.generator.decoding.providers import Compute

RERANKED: Final = 1_000
COMPUTE: Final = Compute(threads=2)


def proc_bytes(file: str, key: str) -> float:
    """An entry that Linux gives in kB, in bytes; `file` is below /proc."""
    lines = (Path("/proc") / file).read_text(encoding="ascii").splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


def resident(load: Callable[[Bundle], Any]) -> Callable[[Bundle], float]:
    """Bytes of this process once it has loaded something."""

    def measure(bundle: Bundle) -> float:
        kept = load(bundle)
        size = proc_bytes("self/status", "VmRSS")
        del kept
        return size

    return measure


def rerank(bundle: Bundle) -> float:
    """MB by which the peak of 8 calls of 1,000 items exceeds what was held before them."""
    engine, rng = GeneratorEngine.load(bundle, COMPUTE, "fp32"), np.random.default_rng(0)

    def query(count: int) -> RankingQuery:
        shortlist = rng.choice(bundle.manifest.items, count, replace=False).astype(np.int32)
        return RankingQuery(UserContext(None, shortlist[:5]), shortlist=shortlist)

    engine.rerank([query(10)])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = proc_bytes("self/status", "VmHWM")
    jobs = [engine.prepare(query(RERANKED)) for _ in range(Limits.batch)]
    while jobs:
        chosen = choose(jobs, Limits.batch)
        engine.run([jobs[i] for i in chosen])
        jobs = [job for i, job in enumerate(jobs) if i not in chosen]
    return (proc_bytes("self/status", "VmHWM") - before) / 1e6


FIGURES: Final[dict[str, Callable[[Bundle], float]]] = {
    # Its vectors are mapped, and its indexes are in the table of kinds.
    "candidate": resident(lambda bundle: bundle.catalog),
    "generator": resident(lambda b: (GeneratorEngine.load(b, COMPUTE, "fp32"), b.histories)),
    "gateway": resident(BundleHistoryStore),
    "rerank": rerank,
}


if __name__ == "__main__":
    print(FIGURES[sys.argv[1]](Bundle.open(Path(sys.argv[2]), verify=False)))
