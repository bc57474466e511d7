"""What a process is at, for whoever asks by SIGUSR1: calls, tasks, queues, circuits, versions."""

import asyncio
import time
from collections import Counter
from typing import Any, Final

from prometheus_client import CollectorRegistry

from serving.telemetry.calls import ServedCalls

MAX_CALLS: Final = 100
"""That are listed: those that came first."""
MAX_TASKS: Final = 50
"""Kinds of tasks that are listed: those of which there are most."""


def state_of(calls: ServedCalls, registry: CollectorRegistry) -> dict[str, Any]:
    """What a server is at; on its event loop. Users, histories and items are not in it.

    Args:
        calls: that it serves.
        registry: of its metrics, whose gauges are read.
    """
    now = time.perf_counter()
    listed = [
        {
            "method": call.method,
            "seconds": round(now - call.started, 3),
            "request_id": call.request_id,
        }
        for call in list(calls.in_hand)[:MAX_CALLS]
    ]
    tasks = Counter(map(_kind, asyncio.all_tasks()))
    return {
        "in_flight": len(calls.in_hand),
        "calls": listed,
        "tasks": dict(tasks.most_common(MAX_TASKS)),
        "gauges": _gauges(registry),
    }


def _kind(task: "asyncio.Task[Any]") -> str:
    """The name that a task was given, or else that of its coroutine."""
    name = task.get_name()
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", name) if name.startswith("Task-") else name


def _gauges(registry: CollectorRegistry) -> dict[str, float]:
    return {
        " ".join((sample.name, *filter(None, sample.labels.values()))): sample.value
        for family in registry.collect()
        if family.type == "gauge" and family.name.startswith("tandem_")
        for sample in family.samples
    }
