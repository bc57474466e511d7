"""`tandem top`: what the processes do, live in the terminal, from their metrics."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from serving.telemetry.scrapes import Interval, Scrape

DEFAULT: Final = "127.0.0.1:9464,127.0.0.1:9465,127.0.0.1:9466"
"""Where `tandem serve all --metrics-port 9464` shows them."""
CALLS: Final = "tandem_server_calls_total"
SECONDS: Final = "tandem_server_call_seconds"

app = typer.Typer()


@app.command(
    epilog="Example:\n\n"
    "tandem serve all --bundle bundles/ml-100k/current --metrics-port 9464\n\n"
    "tandem top"
)
def top(
    *,
    address: Annotated[
        str, typer.Option(help="Where metrics are shown.", metavar="HOST:PORT,…")
    ] = DEFAULT,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look, and end.")] = False,
) -> None:
    """Watch what the processes do: calls, latencies, degradations, queues and batches."""
    addresses = [each.strip() for each in address.split(",") if each.strip()]
    if not addresses:
        raise typer.BadParameter("give at least one --address")

    def look() -> dict[str, Scrape]:
        return {each: Scrape.read(each) for each in addresses}

    before = look()
    if once:
        time.sleep(every)
        Console().print(rendered(between(before, look())))
        return
    with Live(auto_refresh=False, screen=True) as live, suppress(KeyboardInterrupt):
        while True:
            time.sleep(every)
            after = look()
            live.update(rendered(between(before, after)), refresh=True)
            before = after


def between(before: Mapping[str, Scrape], after: Mapping[str, Scrape]) -> dict[str, Interval]:
    """What happened at each address."""
    return {address: Interval(before[address], after[address]) for address in after}


def rendered(intervals: Mapping[str, Interval]) -> RenderableType:
    """All of it."""
    reached = [each for each in intervals.values() if not each.after.error]
    return Group(_processes(intervals), "", _calls(reached), "", *map(_details, reached))


def _processes(intervals: Mapping[str, Interval]) -> Table:
    table = _table("process", "bundle", "catalog", "memory, MB", "CPU", "files")
    for address, seen in intervals.items():
        now = seen.after
        if now.error:
            table.add_row(f"[red]{address}", f"[red]{now.error}")
            continue
        catalog = now.value("tandem_catalog_sequence")
        table.add_row(
            now.label("tandem_build_info", "process") or address,
            ", ".join(now.labels("tandem_bundle_info", "version", state="serving")) or "loading",
            f"{catalog:.0f}" if now.label("tandem_build_info", "process") != "gateway" else "",
            f"{now.value('process_resident_memory_bytes') / 1e6:.0f}",
            f"{seen.rate('process_cpu_seconds_total'):.0%}",
            f"{now.value('process_open_fds'):.0f}",
        )
    return table


def _calls(intervals: Sequence[Interval]) -> Table:
    table = _table("method", "calls/s", "failed/s", "p50, ms", "p99, ms", "in flight")
    for seen in intervals:
        for method in seen.after.by(CALLS, "method"):
            calls = seen.rate(CALLS, method=method)
            failed = calls - seen.rate(CALLS, method=method, code="OK")
            flying = seen.after.value("tandem_server_calls_in_flight", method=method)
            if not calls and not flying:
                continue
            table.add_row(
                method.rpartition(".")[2],
                f"{calls:.1f}",
                f"[red]{failed:.1f}" if failed else "",
                *(_ms(seen.quantile(SECONDS, share, method=method)) for share in (0.5, 0.99)),
                f"{flying:.0f}",
            )
    return table


def _details(seen: Interval) -> RenderableType:
    """What one kind of process alone has."""
    match seen.after.label("tandem_build_info", "process"):
        case "gateway":
            return _gateway(seen)
        case "generator":
            return _generator(seen)
        case _:
            waiting = seen.after.value("tandem_candidate_calls_waiting")
            return f"[bold]candidate[/]  {waiting:.0f} calls wait for a thread\n"


def _gateway(seen: Interval) -> RenderableType:
    answers = seen.grown("tandem_gateway_answers_total")
    degraded = seen.grown("tandem_gateway_degraded_answers_total")
    items = seen.grown("tandem_gateway_items_total")
    hits = seen.grown("tandem_gateway_items_total", source="shortlist")
    circuits = seen.after.value("tandem_gateway_circuits_open")
    stages = {
        stage: seen.mean("tandem_gateway_stage_seconds", stage=stage)
        for stage in seen.after.by("tandem_gateway_stage_seconds_count", "stage")
    }
    shown = ", ".join(f"{s} {_ms(mean)}" for s, mean in stages.items() if not math.isnan(mean))
    return (
        f"[bold]gateway[/]    {_share(degraded, answers)} degraded, {_share(hits, items)} of the "
        f"items from the shortlist, {circuits:.0f} circuits open, "
        f"{seen.after.value('tandem_gateway_requests_waiting'):.0f} requests wait\n"
        f"           mean ms: {shown or '–'}\n"
    )


def _generator(seen: Interval) -> RenderableType:
    def mean(name: str) -> str:
        value = seen.mean(f"tandem_generator_{name}")
        return "–" if math.isnan(value) else f"{value:.1f}"

    queued = _ms(seen.quantile("tandem_generator_queue_seconds", 0.99))
    return (
        f"[bold]generator[/]  {seen.rate('tandem_generator_batch_seconds_count'):.1f} runs/s of "
        f"{mean('batch_jobs')} jobs, {mean('prompt_tokens')} positions, {mean('beams')} beams; "
        f"queue p99 {queued} ms, "
        f"{seen.after.value('tandem_generator_jobs_waiting'):.0f} jobs wait\n"
    )


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, header_style="bold")
    for name in others:
        table.add_column(name, justify="right")
    return table


def _ms(seconds: float) -> str:
    return "–" if math.isnan(seconds) else f"{seconds * 1e3:.1f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"
