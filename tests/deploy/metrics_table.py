"""The table of docs/metrics.md, written from the metrics that the three processes have.

python -m tests.deploy.metrics_table      writes it anew
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry

from gateway.metrics import GatewayMetrics
from services.candidate.metrics import CandidateMetrics
from services.generator.metrics import GeneratorMetrics
from serving.telemetry.calls import ServedCalls
from serving.telemetry.metrics import ProcessMetrics

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "metrics.md"
BEGIN: Final = "<!-- metrics -->\n"
END: Final = "<!-- end -->"
_HEAD: Final = "| metric | kind | labels | of | meaning |\n| --- | --- | --- | --- | --- |\n"


class Metric(NamedTuple):
    """A row."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def metrics_of(process: str) -> list[Metric]:
    """The metrics of Tandem's own that a process has, in the order in which they are made."""
    registry = CollectorRegistry()
    calls = ServedCalls(registry)
    calls.know("/a/B")
    ProcessMetrics(registry, process, lambda: [("", "shop/1", "serving")])
    {"candidate": CandidateMetrics, "generator": GeneratorMetrics, "gateway": GatewayMetrics}[
        process
    ](registry)
    found = []
    collectors: dict[Any, list[str]] = registry._collector_to_names
    with calls.served("/a/B", {}):
        for collector in collectors:
            labels = getattr(collector, "_labelnames", None)
            for family in collector.collect():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                if name.startswith("tandem_"):
                    own = labels if labels is not None else tuple(family._labelnames)
                    found.append(Metric(name, family.type, own, family.documentation))
    return found


def table() -> str:
    """Every metric, in order, with the processes that have it."""
    owners: dict[Metric, list[str]] = {}
    for process in ("gateway", "candidate", "generator"):
        for metric in metrics_of(process):
            owners.setdefault(metric, []).append(process)
    return _HEAD + "".join(_row(metric, owners[metric]) for metric in owners)


def _row(metric: Metric, owners: list[str]) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    of = "all" if len(owners) == 3 else ", ".join(owners)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {of} | {metric.meaning} |\n"


def replace_table(document: str) -> str:
    """A document with the table between its markers made anew."""
    before, found, rest = document.partition(BEGIN)
    if not found:
        raise ValueError("the document has no place for the metrics")
    return before + BEGIN + table() + rest[rest.index(END) :]


if __name__ == "__main__":
    DOCUMENT.write_text(replace_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
