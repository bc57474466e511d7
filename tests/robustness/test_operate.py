"""The soak of the whole system in small."""

import asyncio
from pathlib import Path

import pytest

from bench.operate.swaps import all_three
from tests.processes import PATIENCE
from tests.robustness.operate.__main__ import closing_line, exceeded
from tests.robustness.operate.bundles import versions
from tests.robustness.operate.run import Plan, Soaked, soak
from tests.robustness.operate.tally import Tally

CALLS, SWAPS, CUTS = 300, 7, 5


@pytest.mark.slow
def test_a_short_soak_fails_no_call(tmp_path: Path) -> None:
    paths = versions(None, tmp_path)
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    plan = Plan(rate=50, swap_seconds=0.2, cuts_per_second=5, timeout=PATIENCE)

    def progress(so_far: Soaked) -> float:
        done = (so_far.tally.calls.total() / CALLS, so_far.swaps / SWAPS)
        return min(done)

    with all_three(paths[0], tmp_path, tmp_path / "histories.db") as processes:
        soaked = asyncio.run(soak(processes, names, plan, progress))
    assert soaked.faults() == []
    assert soaked.swaps >= SWAPS
    assert soaked.cuts >= CUTS
    assert soaked.tally.versions.keys() == set(names)
    assert {
        "recommend",
        "similar",
        "events",
        "batch",
        "upsert",
        "delete",
    } <= soaked.tally.calls.keys()
    assert soaked.figures()["memory_mb_most"] > 0
    assert f"{soaked.swaps} swaps" in closing_line(soaked.figures())


def test_growth_over_the_limits_is_named() -> None:
    soaked = Soaked(Tally(), began=0, seconds=100)
    for at in range(100):
        soaked.memory.append((at, 500 + at))
        soaked.tally.ended.append(at)
        soaked.tally.ms.append(10 + at)
    assert exceeded(soaked, most_growth_mb=100, most_drift=2) == []
    memory, p99 = exceeded(soaked, most_growth_mb=79, most_drift=0.1)
    assert memory.startswith("memory grew by 80 MB")
    assert p99.startswith("p99 grew by")
