"""The soak of the whole system in small."""

import asyncio
from pathlib import Path

import pytest

from bench.operate.swaps import all_three
from tests.pipeline.whole_bundle import write_whole_bundle
from tests.processes import PATIENCE
from tests.robustness.operate.run import Plan, Soaked, soak

CALLS, SWAPS, CUTS = 300, 7, 5
VERSIONS = ("1", "2", "3")


@pytest.mark.slow
def test_a_short_soak_fails_no_call(tmp_path: Path) -> None:
    for seed, version in enumerate(VERSIONS):
        bundle = write_whole_bundle(tmp_path, version, items=60 + seed, seed=seed)
    plan = Plan(rate=50, swap_seconds=0.2, cuts_per_second=5, timeout=PATIENCE)

    def progress(so_far: Soaked) -> float:
        done = (so_far.tally.calls.total() / CALLS, so_far.swaps / SWAPS)
        return min(done)

    with all_three(bundle.with_name("1"), tmp_path, tmp_path / "histories.db") as processes:
        versions = [f"{bundle.parent.name}/{version}" for version in VERSIONS]
        soaked = asyncio.run(soak(processes, versions, plan, progress))
    assert soaked.faults() == []
    assert soaked.swaps >= SWAPS
    assert soaked.cuts >= CUTS
    assert soaked.tally.versions.keys() == set(versions)
    assert {
        "recommend",
        "similar",
        "events",
        "batch",
        "upsert",
        "delete",
    } <= soaked.tally.calls.keys()
    assert soaked.figures()["memory_mb_most"] > 0
