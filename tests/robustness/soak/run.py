"""A soak of the generator service: mixed calls for minutes while the catalog changes, all checked.

One process serves a small random T5 as `tandem serve generator` does. Callers in this process
generate, rerank, and do both, with random filters, allow-lists and exclude lists; some leave, and
some have deadlines that pass. Meanwhile items come, go, and get other codes and attributes.

Every answer is compared with what comes of looking at every item, by code that shares nothing with
the service: no item may be illegal, listed twice, or left out. An answer does not say which version
of the catalog it is about, so it is right when it is exactly right for one that was current while
it was made.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import grpc
import numpy as np

from core.manifest import Precision
from services.generator.decoding.providers import Device
from tests.robustness.soak.bundle import BEAMS, make_bundle
from tests.robustness.soak.callers import Callers, Tally, Timeline
from tests.robustness.soak.catalog import Changer
from tests.robustness.soak.process import Memory, ServerProcess, started
from tests.robustness.soak.requests import Requests

MARKS: Final = 100
"""How often memory is measured."""
TICK: Final = 0.05
"""Seconds between two looks at how far the soak is."""
_MIB: Final = 2**20


@dataclass(frozen=True)
class Plan:
    """What is soaked, and in what."""

    precision: Precision = "int8"
    device: Device = "cpu"
    threads: int = 0
    """Of the server; 0 means one per core."""
    items: int = 2_500
    callers: int = 32
    queue: int = 26
    """Calls that may wait; fewer than the callers, so that some are shed."""
    changes_per_second: float = 5.0
    sample_every: int = 200
    """Calls to one whose answer is compared with the exact scores of all items."""
    seed: int = 0

    @property
    def settings(self) -> dict[str, object]:
        """Of the server."""
        return {
            "precision": self.precision,
            "device": self.device,
            "threads": self.threads,
            "max_queue": self.queue,
        }


@dataclass(frozen=True)
class Mark:
    """What the server took at some time."""

    share: float
    """Of the soak that is over."""
    minutes: float
    memory: Memory


@dataclass(frozen=True)
class Soaked:
    """What came of a soak."""

    tally: Tally
    versions: int
    """Of the catalog, the first one not counted."""
    seconds: float
    marks: Sequence[Mark]

    @property
    def growth(self) -> float:
        """Of memory, as a share, from a fifth of the soak to its end."""
        return self.rss(1.0) / self.rss(0.2) - 1

    @property
    def slope(self) -> float:
        """Of memory, over the second half; MiB per minute."""
        later = [mark for mark in self.marks if mark.share >= 0.5]
        if len(later) < 2:
            return 0.0
        minutes = [mark.minutes for mark in later]
        return float(np.polyfit(minutes, [mark.memory.rss / _MIB for mark in later], 1)[0])

    def rss(self, share: float) -> float:
        """MiB when so much of the soak was over."""
        return next((m for m in self.marks if m.share >= share), self.marks[-1]).memory.rss / _MIB

    def figures(self) -> dict[str, float | int]:
        """All figures by name."""
        tally, last = self.tally, self.marks[-1].memory
        p50, p99 = np.percentile(tally.ms, (50, 99)).tolist() if tally.ms else (0.0, 0.0)
        return {
            "violations": tally.violations,
            "answers": tally.answers.total(),
            **{f"answers_{name.lower()}": count for name, count in sorted(tally.answers.items())},
            "answers_that_list_all_that_is_legal": tally.full,
            "answers_while_the_catalog_changed": tally.across,
            "cancelled": tally.cancelled,
            "expired": tally.expired,
            "shed": tally.shed,
            "versions": self.versions,
            "tombstones": last.positions - last.live,
            "compared_with_exact_scores": tally.sampled,
            "largest_score_difference": tally.difference,
            "best_item_found": tally.found / max(tally.sampled, 1),
            "minutes": self.seconds / 60,
            "answers_per_second": tally.answers.total() / self.seconds,
            "p50_ms": p50,
            "p99_ms": p99,
            "rss_mib_at_10pct": self.rss(0.1),
            "rss_mib_at_50pct": self.rss(0.5),
            "rss_mib_at_100pct": self.rss(1.0),
            "rss_growth_from_20pct": self.growth,
            "rss_mib_per_minute_in_second_half": self.slope,
        }


async def soak(
    directory: Path,
    plan: Plan,
    progress: Callable[[float, Tally, int], float],
    show: Callable[[float, Tally], None],
) -> Soaked:
    """Soaks a server.

    Args:
        directory: an empty one, for the bundle.
        plan: what to do.
        progress: which share is over after so many seconds, with what came of them, and with so
            many versions of the catalog; the soak ends at 1.
        show: told that share now and then.

    Raises:
        ChildProcessError: the server ended by itself.
    """
    changer = Changer(plan.seed, plan.items)
    timeline = Timeline(changer.first())
    bundle = make_bundle(directory, timeline.newest, plan.precision)
    async with (
        started(bundle, plan.settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        callers = Callers(
            channel,
            Requests(plan.seed + 1),
            timeline,
            beams=BEAMS,
            precision=plan.precision,
            seed=plan.seed + 2,
            sample_every=plan.sample_every,
        )
        await callers.heat(plan.queue)
        began = perf_counter()

        def share() -> float:
            return progress(perf_counter() - began, callers.tally, timeline.newest.number)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(plan.callers):
                tasks.create_task(callers.call_until(lambda: share() >= 1))
            tasks.create_task(
                _change(server, changer, timeline, callers.still, plan.changes_per_second, share)
            )
            watching = tasks.create_task(
                _watch(server, share, lambda so_far: show(so_far, callers.tally))
            )
        return Soaked(
            callers.tally, timeline.newest.number, perf_counter() - began, watching.result()
        )


async def _change(
    server: ServerProcess,
    changer: Changer,
    timeline: Timeline,
    still: asyncio.Lock,
    per_second: float,
    share: Callable[[], float],
) -> None:
    """Changes the catalog again and again."""
    while share() < 1:
        async with still:
            changes = changer.changes(timeline.newest)
            timeline.ordered(changes)
            await server.apply(changes)
            timeline.done()
        await asyncio.sleep(1 / per_second)


async def _watch(
    server: ServerProcess, share: Callable[[], float], show: Callable[[float], None]
) -> list[Mark]:
    """Measures the server's memory at every hundredth of the soak, and at its end."""
    began, marks = perf_counter(), list[Mark]()
    while not marks or marks[-1].share < 1:
        now = share()
        if now >= len(marks) / MARKS or now >= 1:
            memory = await server.measure()
            marks.append(Mark(now, (perf_counter() - began) / 60, memory))
        show(now)
        await asyncio.sleep(TICK)
    return marks
