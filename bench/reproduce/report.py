"""The page, the JSON and the plots of a data set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.reproduce.published import METRICS, PUBLISHED
from bench.reproduce.reproduction import Findings
from bench.results.files import write_json, write_text
from bench.results.pages import how_it_was_made, markdown_table, share
from bench.results.plots import line_chart
from offline.evaluate.protocol import RANKINGS
from offline.metrics import Ranking

HEADER = ("indexing", "row", *(metric.upper() for metric in METRICS))


@dataclass(frozen=True)
class Page:
    """What is written about a data set."""

    name: str
    command: str
    facts: Mapping[str, Any]
    """`config`, `environment` and `seconds` by piece of work."""
    findings: Findings
    left: Sequence[str]
    """Pieces of work that are not done."""

    def write(self, directory: Path) -> Path:
        """Writes everything, and returns the page."""
        for file, chart in self._charts().items():
            write_text(directory / file, chart)
        found = self.findings
        document = {
            "data": self.name,
            **self.facts,
            "rows": found.rows,
            "published": [
                {"indexing": indexing, "task": task, **dict(zip(METRICS, figures, strict=True))}
                for (indexing, task), figures in PUBLISHED.get(self.name, {}).items()
            ],
            "curves": found.curves,
            "beams": found.beams,
            "left": list(self.left),
        }
        write_json(directory / f"{self.name}.json", document)
        write_text(directory / f"{self.name}.md", self._text())
        return directory / f"{self.name}.md"

    def _text(self) -> str:
        parts = [
            f"# {self.name}, indexing by indexing",
            f"Made by `{self.command}`. Leave-one-out test items of all users; any item may be "
            "listed. `sequential` is asked with a history, `direct` (OpenP5's straightforward "
            "task) with a user's name alone; `seen` with a prompt of training, `unseen` with "
            "another; by beam search, whose lists have as many items as beams. `exact` ranks all "
            "items by every code's probability instead; there `seen items as others` leaves out "
            "the learned number for what a history holds already.",
        ]
        if self.left:
            parts.append(f"Not done yet: {', '.join(self.left)}.")
        for ranking in reversed(RANKINGS):
            parts += [f"## {ranking.capitalize()}", self._table(ranking)]
        if self.findings.beams:
            parts += ["## Beams", self._beams()]
        images = [f"![{file}]({file})" for file in self._charts()]
        return "\n\n".join([*parts, *images, how_it_was_made(self.facts)]) + "\n"

    def _table(self, ranking: Ranking) -> str:
        return markdown_table(HEADER, [*self._measured(ranking), *self._published(ranking)])

    def _measured(self, ranking: Ranking) -> Iterator[list[str]]:
        for name, rows in self.findings.rows.items():
            for row in rows:
                if row["ranking"] == ranking:
                    yield [name, row["name"], *(share(row[metric]) for metric in METRICS)]

    def _published(self, ranking: Ranking) -> Iterator[list[str]]:
        if ranking == "unfiltered":
            for (indexing, task), figures in PUBLISHED.get(self.name, {}).items():
                yield [indexing, f"{task}, published by OpenP5", *map(share, figures)]

    def _beams(self) -> str:
        rows = [
            [
                f"{row['beams']}",
                share(row["hr@10"]),
                share(row["ndcg@10"]),
                f"{row['milliseconds']:.1f}",
            ]
            for row in self.findings.beams
        ]
        return markdown_table(("beams", "HR@10", "NDCG@10", "ms a prompt"), rows)

    def _charts(self) -> dict[str, str]:
        """SVG documents by file name."""
        charts = {}
        if curves := {name: self._over_time(name) for name in self.findings.curves}:
            charts[f"{self.name}-training.svg"] = line_chart(
                f"{self.name}: validation, filtered", "minutes of training", "NDCG@10", curves
            )
        if beams := self.findings.beams:
            quality = {"Tandem": [(row["milliseconds"], row["ndcg@10"]) for row in beams]}
            by_beams = {"Tandem": [(row["beams"], row["ndcg@10"]) for row in beams]}
            title = f"{self.name}: test, filtered"
            charts[f"{self.name}-latency.svg"] = line_chart(
                title, "milliseconds a prompt", "NDCG@10", quality
            )
            charts[f"{self.name}-beams.svg"] = line_chart(title, "beams", "NDCG@10", by_beams)
        return charts

    def _over_time(self, name: str) -> list[tuple[float, float]]:
        """A curve by minutes, of which every epoch took as many."""
        curve = {int(epoch): ndcg for epoch, ndcg in self.findings.curves[name].items()}
        seconds = self.facts["seconds"].get(f"{name}, training", 0.0)
        each = seconds / 60 / max(curve, default=1)
        return [(epoch * each, ndcg) for epoch, ndcg in curve.items()]
