"""Click-through and hit share are what happened, and no caller adds labels."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.attribution.counts import (
    MAX_LISTS,
    POSITIONS,
    Attribution,
    Labels,
    position_label,
)
from gateway.history.event import Event, Shown
from gateway.metrics import GatewayMetrics
from gateway.variants.plan import MAX_VARIANTS
from tests.gateway.attribution.simulated import simulate
from tests.gateway.stack import Stack, running
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def stack(
    history_flags: dict[str, Any], registry: CollectorRegistry, tmp_path: Path
) -> AsyncIterator[Stack]:
    flags = history_flags | {"history_timeout": 5.0}
    metrics = GatewayMetrics(registry)
    async with running(write_tiny_bundle(tmp_path), metrics=metrics, **flags) as stack:
        yield stack


async def test_counts_are_what_happened(stack: Stack, registry: CollectorRegistry) -> None:
    truth = await simulate(stack, lists=60)
    # Everything twice, some of it at the same time.
    parts = [truth.events[n : n + 50] for n in range(0, len(truth.events), 50)]
    for _ in range(2):
        await asyncio.gather(*(stack.client.record_events(part) for part in parts + parts[:2]))
    counted = stack.servicer.attribution.items()
    seen = Counter({(c.labels.strategy, c.labels.position): c.seen for c in counted})
    clicked = Counter({(c.labels.strategy, c.labels.position): c.clicked for c in counted})
    assert seen == truth.labelled(truth.seen)
    assert clicked == truth.labelled(truth.clicked)
    lists = stack.servicer.attribution.lists()
    assert Counter({c.labels.strategy: c.seen for c in lists}) == truth.lists_seen
    assert Counter({c.labels.strategy: c.clicked for c in lists}) == truth.lists_clicked
    assert {c.labels.variant for c in (*counted, *lists)} == {""}
    exposed = generate_latest(registry).decode()
    for (strategy, position), count in clicked.items():
        labels = f'{{position="{position}",strategy="{strategy}",variant=""}}'
        assert f"tandem_gateway_item_clicks_total{labels} {float(count)}" in exposed
    for strategy, count in truth.lists_seen.items():
        labels = f'{{strategy="{strategy}",variant=""}}'
        assert f"tandem_gateway_list_impressions_total{labels} {float(count)}" in exposed
    assert sum(clicked.values()) > 20


def event(name: str, *, kind: str = "click", variant: str = "", place: int = 1) -> Event:
    return Event("e", "ann", "i1", 0, kind, shown=Shown(name, "fuse", place, 0.5, variant))


def test_only_what_came_of_an_answer_counts() -> None:
    attribution = Attribution()
    attribution.record([Event("e", "ann", "i1", 0, "click"), event("a", kind="purchase")])
    assert attribution.items() == attribution.lists() == []


def test_where_the_user_saw_it_goes_before_the_answer() -> None:
    attribution = Attribution()
    attribution.record([Event("e", "ann", "i1", 0, "click", None, 30, Shown("a", "fuse", 2, 0.0))])
    assert [c.labels for c in attribution.items()] == [Labels("", "fuse", "21-50")]


def test_variants_beyond_the_bound_are_counted_together() -> None:
    attribution = Attribution()
    attribution.record([event("a", variant=f"v{n}") for n in range(1_000)])
    counts = {c.labels.variant: c.clicked for c in attribution.items()}
    assert len(counts) == MAX_VARIANTS + 1
    assert counts["other"] == 1_000 - MAX_VARIANTS


def test_answers_of_no_variant_take_no_variants_place() -> None:
    attribution = Attribution()
    names = ["", *(f"v{n}" for n in range(MAX_VARIANTS))]
    attribution.record([event("a", variant=name) for name in names])
    assert {count.labels.variant for count in attribution.items()} == set(names)


def test_no_more_lists_are_remembered_than_the_bound() -> None:
    attribution = Attribution()
    for _ in range(2):
        attribution.record([event(f"{n}") for n in range(MAX_LISTS + 1)])
    (count,) = attribution.lists()
    assert count.clicked == 2 * (MAX_LISTS + 1)  # each was forgotten before it came again
    attribution.record([event(f"{n}") for n in range(2, MAX_LISTS + 1)])
    assert attribution.lists() == [count]


@given(st.integers(1, 2**31))
def test_every_position_has_its_label(position: int) -> None:
    label = position_label(position)
    assert label in POSITIONS
    first, dash, last = label.partition("-")
    assert int(first) <= position
    if last or not dash:
        assert position <= int(last or first)
