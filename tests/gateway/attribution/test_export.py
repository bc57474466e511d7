"""Exported events: click-through by strategy and position is what happened, of both stores."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

import tandem
from gateway.variants.assignment import assigned, subject
from offline.events.table import SCHEMA
from tests.cli.command import Result, run
from tests.gateway.attribution.simulated import Truth, simulate
from tests.gateway.stack import running
from tests.tiny_bundle import write_tiny_bundle

CHANCES = {"control": 0.2, "next": 0.6}
"""Of a click on an item that is seen, by variant."""
HALVES = """
experiment = "halves"
[variants.control]
percent = 50
strategy = "embedding"
[variants.next]
percent = 50
strategy = "fuse"
"""


def export(flags: dict[str, Any], out: Path) -> Result:
    key = ["--history-key-file", str(flags["history_key_file"])] if len(flags) > 1 else []
    return run("export-events", str(out), "--history", flags["history"], *key)


async def act(bundle: Path, flags: dict[str, Any], out: Path) -> tuple[Truth, Result]:
    """Simulated users, some of it sent twice, exported while the gateway runs."""
    async with running(bundle, **flags, history_timeout=5.0) as stack:
        await stack.servicer.warm_up()
        truth = await simulate(stack, lists=60)
        for _ in range(2):
            await stack.client.record_events(truth.events)
        plain = tandem.event("gone", "i1", type="click")
        await stack.client.record_events([plain, tandem.event("dee", "i2", value=2.5)])
        await stack.client.delete_user("gone")
        return truth, await asyncio.to_thread(export, flags, out)


def rates(frame: pl.DataFrame) -> dict[tuple[Any, ...], float]:
    found = frame.group_by("strategy", "variant", "position").agg(
        rate=(pl.col("type") == "click").sum() / (pl.col("type") == "impression").sum()
    )
    return {(s, v, p): rate for s, v, p, rate in found.iter_rows()}


def test_exported_click_through_is_the_truth(history_flags: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "events.parquet"
    truth, done = asyncio.run(act(write_tiny_bundle(tmp_path), history_flags, out))
    assert done.code == 0, done.stderr
    frame = pl.read_parquet(out)
    assert done.stdout == f"exported {frame.height:,} events to {out}\n"
    assert frame.schema == SCHEMA
    shown = frame.filter(pl.col("recommendation_id").is_not_null())
    assert shown.height == len(truth.events)
    assert rates(shown) == {
        (strategy, "", position): truth.clicked[strategy, position] / seen
        for (strategy, position), seen in truth.seen.items()
    }
    lists = shown.filter(type="click").select("strategy", "recommendation_id").unique()
    assert Counter(lists["strategy"].to_list()) == +truth.lists_clicked
    assert set(shown["bundle_version"]) == {"tiny/1"}
    # Beside those: the bundle's own, and what came of no answer.
    rest = frame.filter(pl.col("recommendation_id").is_null())
    assert Counter(rest["user_id"]) == {"ann": 3, "bob": 1, "dee": 1}
    (value,) = rest.filter(user_id="dee").iter_rows(named=True)
    assert (value["type"], value["value"], value["strategy"]) == ("interaction", 2.5, None)
    assert not list(tmp_path.glob(".*.tmp"))


async def experiment(
    bundle: Path, flags: dict[str, Any], out: Path, file: Path
) -> tuple[dict[tuple[str, str], float], Result]:
    """Users of two variants, each event sent twice; the truth is by the draw, not by answers."""
    dice = random.Random(0)  # noqa: S311 - no secret
    seen: Counter[str] = Counter()
    clicked: Counter[str] = Counter()
    async with running(bundle, **flags, serving_file=file, history_timeout=5.0) as stack:
        await stack.servicer.warm_up()
        for user in (f"u{n}" for n in range(60)):
            variant = assigned("halves", [(name, 50.0) for name in CHANCES], subject(user, ()))
            assert variant is not None
            answer = await stack.client.recommend(user, history=["i0", "i1"], max_results=5)
            events = []
            for item in answer.recommendations:
                kinds = ["impression"] + ["click"] * (dice.random() < CHANCES[variant])
                clicked[variant] += "click" in kinds
                seen[variant] += 1
                events += [
                    tandem.event(
                        user,
                        item.item_id,
                        type=kind,
                        event_id=f"{kind} {item.item_id}",
                        recommendation_id=answer.recommendation_id,
                    )
                    for kind in kinds
                ]
            for _ in range(2):
                await stack.client.record_events(events)
        done = await asyncio.to_thread(export, flags, out)
    strategies = {"control": "embedding", "next": "fuse"}
    return {(name, strategies[name]): clicked[name] / seen[name] for name in seen}, done


def test_exported_click_through_by_variant_is_the_truth(
    history_flags: dict[str, Any], tmp_path: Path
) -> None:
    file, out = tmp_path / "serving.toml", tmp_path / "events.parquet"
    file.write_text(HALVES, encoding="utf-8")
    truth, done = asyncio.run(experiment(write_tiny_bundle(tmp_path), history_flags, out, file))
    assert done.code == 0, done.stderr
    frame = pl.read_parquet(out).filter(pl.col("recommendation_id").is_not_null())
    found = frame.group_by("variant", "strategy").agg(
        rate=(pl.col("type") == "click").sum() / (pl.col("type") == "impression").sum()
    )
    assert {(v, s): rate for v, s, rate in found.iter_rows()} == truth
    assert set(truth) == {("control", "embedding"), ("next", "fuse")}


def test_what_cannot_be_exported_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "events.parquet"
    out.write_bytes(b"before")
    missing = run("export-events", str(out), "--history", str(tmp_path / "none.sqlite"))
    assert (missing.code, "there is no file of histories" in missing.stderr) == (1, True)
    (tmp_path / "text.sqlite").write_text("no database at all " * 100)
    text = run("export-events", str(out), "--history", str(tmp_path / "text.sqlite"))
    assert (text.code, "cannot read the histories" in text.stderr) == (1, True)
    away = run("export-events", str(out), "--history", "redis://127.0.0.1:1")
    assert (away.code, "--history-key-file" in away.stderr) == (2, True)
    key = tmp_path / "key"
    key.write_text("k" * 32)
    flags = ("--history", "redis://127.0.0.1:1", "--history-key-file", str(key))
    away = run("export-events", str(out), *flags)
    assert (away.code, "cannot be reached" in away.stderr) == (1, True)
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("tmp")] == []
