"""A soak of the whole system, and what it comes to.

Three processes serve, the candidate with a store and the gateway with a history file. Callers mix
all calls of the gateway at a rate, another changes the catalog, versions of the bundle take each
other's place, and connections of some of the callers are cut in the middle of what they ask.

Nothing may fail but the calls whose connection was cut, no answer may be of two versions, and in
the end catalog and histories are what was acknowledged.
"""

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import numpy as np

from bench.lib.stack import Process
from bench.operate.swaps import Memory
from core.bundle import Bundle
from tandem import AsyncCatalogClient, AsyncClient, BundleClient, Error
from tests.robustness.operate.callers import Callers, Writer
from tests.robustness.operate.drift import Drift
from tests.robustness.operate.relay import Relay, relaying
from tests.robustness.operate.tally import PARTS, WINDOWS, Tally

KNEE_SECONDS: Final = 15.0
TICK: Final = 0.25
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Plan:
    """What is done to the processes."""

    rate: float = 20.0
    """Calls a second."""
    callers: int = 12
    """That share the rate, so that no more calls than this are under way."""
    cut_callers: int = 3
    """Those of them whose connections are cut."""
    cuts_per_second: float = 1.0
    changes_per_second: float = 2.0
    swap_seconds: float = 10.0
    timeout: float = 5.0
    """Seconds that a call may take."""
    seed: int = 0


@dataclass
class Soaked:
    """What came of a soak."""

    tally: Tally
    began: float = field(default_factory=perf_counter)
    seconds: float = 0.0
    swaps: int = 0
    cuts: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)
    """When, and how many MB all processes had to themselves."""
    wrong: list[str] = field(default_factory=list)
    """What differs, in the end, from what was acknowledged, and what processes logged as errors."""

    @property
    def growth_mb(self) -> float:
        """Of the median of memory, from the second tenth of the soak to the last."""
        marks = np.array(self.memory)
        part = ((marks[:, 0] - self.began) / self.seconds * PARTS).astype(int)
        first, last = (marks[part == n, 1] for n in (1, PARTS - 1))
        return float(np.median(last) - np.median(first)) if len(first) and len(last) else 0.0

    @property
    def drift(self) -> Drift:
        """Of p99, after the first tenth."""
        warm = self.seconds / PARTS
        return Drift.of(self.tally.p99(self.began + warm, self.seconds - warm, WINDOWS))

    def faults(self) -> list[str]:
        """Whatever must not be, in a line each."""
        failures = [f"{count} times {what}" for what, count in self.tally.failures.most_common()]
        mixed = [f"{self.tally.mixed} answers of two versions"] if self.tally.mixed else []
        return failures + mixed + self.wrong

    def figures(self) -> dict[str, float | int]:
        """All figures by name."""
        tally, mb = self.tally, [taken for _, taken in self.memory]
        tenths = tally.p99(self.began, self.seconds, PARTS) or [0.0]
        drift = self.drift
        return {
            "failed_calls": tally.failures.total(),
            "answers_of_two_versions": tally.mixed,
            "wrong_in_the_end": len(self.wrong),
            "calls": tally.calls.total(),
            **{f"calls_{kind}": count for kind, count in sorted(tally.calls.items())},
            "calls_cut_off": tally.cut_off,
            "changes": tally.calls["upsert"] + tally.calls["delete"],
            "clients_cut_off": self.cuts,
            "swaps": self.swaps,
            "minutes": self.seconds / 60,
            "p50_ms": float(np.median(tally.ms)) if tally.ms else 0.0,
            "p99_ms": float(np.percentile(tally.ms, 99)) if tally.ms else 0.0,
            "p99_first_tenth_ms": tenths[0],
            "p99_second_tenth_ms": tenths[min(1, len(tenths) - 1)],
            "p99_last_tenth_ms": tenths[-1],
            "p99_drift": drift.share,
            "p99_drift_at_least": drift.low,
            "p99_drift_at_most": drift.high,
            "memory_mb_median": float(np.median(mb)),
            "memory_mb_most": max(mb),
            "memory_growth_mb": self.growth_mb,
        }


async def soak(
    processes: dict[str, Process],
    versions: Sequence[str],
    plan: Plan,
    progress: Callable[[Soaked], float],
    show: Callable[[float, Soaked], None] = lambda *_: None,
) -> Soaked:
    """Soaks processes that serve.

    Args:
        processes: `candidate`, `generator` and `gateway`.
        versions: of the bundle, at least two, that take turns; the first serves.
        plan: what to do.
        progress: which share is over; the soak ends at 1.
        show: told that share now and then.
    """
    users, items = _drawn(Bundle.open(processes["gateway"].bundle, verify=False))
    callers = Callers(users, items, timeout=plan.timeout, seed=plan.seed)
    soaked = Soaked(callers.tally)

    def over() -> bool:
        return progress(soaked) >= 1

    async with AsyncExitStack() as opened:
        gateway = processes["gateway"].address
        relay = await opened.enter_async_context(relaying(gateway, plan.seed))
        clients = [
            await opened.enter_async_context(
                AsyncClient(relay.address if number < plan.cut_callers else gateway)
            )
            for number in range(plan.callers)
        ]
        catalog = await opened.enter_async_context(
            AsyncCatalogClient(processes["candidate"].address)
        )
        writer = Writer(catalog, items, callers.tally, timeout=plan.timeout, seed=plan.seed)
        async with asyncio.TaskGroup() as tasks:
            for number, client in enumerate(clients):
                is_cut = number < plan.cut_callers
                tasks.create_task(callers.call_until(over, client, plan.rate, is_cut=is_cut))
            tasks.create_task(writer.change_until(over, plan.changes_per_second))
            tasks.create_task(_cut(relay, over, plan, soaked))
            tasks.create_task(_swap(gateway, versions, soaked, over, plan.swap_seconds))
            tasks.create_task(
                _watch(processes, soaked, over, lambda: show(progress(soaked), soaked))
            )
        soaked.wrong += await writer.differences(clients[-1])
        soaked.wrong += [f"lost: {user}" for user in await callers.lost_events(clients[-1])]
    soaked.wrong += [line for process in processes.values() for line in _errors(process)]
    return soaked


async def knee(processes: dict[str, Process], plan: Plan) -> float:
    """The calls a second that callers reach who never pause; more than that only queue.

    Args:
        processes: that serve.
        plan: how many callers there are.
    """
    users, items = _drawn(Bundle.open(processes["gateway"].bundle, verify=False))
    callers = Callers(users, items, timeout=plan.timeout, seed=plan.seed)
    ends = perf_counter() + KNEE_SECONDS

    def over() -> bool:
        return perf_counter() > ends

    async with AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
        for _ in range(plan.callers):
            client = AsyncClient(processes["gateway"].address)
            await opened.enter_async_context(client)
            tasks.create_task(callers.call_until(over, client, math.inf, is_cut=False))
    return callers.tally.calls.total() / KNEE_SECONDS


def _drawn(bundle: Bundle) -> tuple[list[str], list[str]]:
    """The users with a history, and the items, that callers draw from."""
    histories = bundle.histories
    users = [user for user, n in histories.user_index.items() if np.diff(histories.indptr)[n]]
    return users, [item.item_id for item in bundle.catalog.items]


async def _cut(relay: Relay, over: Callable[[], bool], plan: Plan, soaked: Soaked) -> None:
    """Cuts connections at random moments."""
    rng = random.Random(plan.seed)  # noqa: S311 - no secret
    while not over():
        await asyncio.sleep(rng.expovariate(plan.cuts_per_second))
        relay.cut()
        soaked.cuts = relay.cuts


async def _swap(
    gateway: str, versions: Sequence[str], soaked: Soaked, over: Callable[[], bool], seconds: float
) -> None:
    """Has one version after another serve."""
    bundles = BundleClient(gateway)
    turn = 0
    while not over():
        turn += 1
        version = versions[turn % len(versions)]
        try:
            await asyncio.gather(
                asyncio.to_thread(bundles.activate, version), asyncio.sleep(seconds)
            )
            soaked.swaps += 1
        except Error as error:
            soaked.tally.failures[f"swap: {error}"] += 1
    bundles.close()


async def _watch(
    processes: dict[str, Process],
    soaked: Soaked,
    over: Callable[[], bool],
    show: Callable[[], None],
) -> None:
    """Notes the memory of all processes."""
    memory = Memory(list(processes.values()))
    while True:
        soaked.memory.append((perf_counter(), await asyncio.to_thread(memory.now)))
        soaked.seconds = perf_counter() - soaked.began
        show()
        if over():
            return
        await asyncio.sleep(TICK)


def _errors(process: Process) -> list[str]:
    """What a process logged as an error, and how it ended if it did."""
    if process.process.poll() is not None:
        return [f"{process.name} ended with exit code {process.process.returncode}"]
    lines = process.log.read_text(encoding="utf-8").splitlines()
    return [f"{process.name}: {line}" for line in lines if '"level": "error"' in line]
