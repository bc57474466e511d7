"""`make reproduce`: rows of an indexing on a made-up shop, the page, and the plots."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.reproduce import reproduction
from bench.reproduce.report import Page
from bench.reproduce.reproduction import Findings, Reproduction
from bench.results.plots import line_chart
from offline.training import deadline
from offline.training.deadline import OutOfTime
from tests.bench.shop import shop_config, shop_source
from tests.pipeline.conftest import USERS, write_shop

FACTS = {"config": {}, "environment": {"cores": 2}, "seconds": {"random, training": 120.0}}


def row(name: str, ranking: str, value: float) -> dict[str, object]:
    metrics = ("hr@5", "ndcg@5", "hr@10", "ndcg@10")
    return {"name": name, "ranking": ranking, "users": 9, **dict.fromkeys(metrics, value)}


def made_up() -> Findings:
    rows = {
        "random": [
            row("sequential/seen", "unfiltered", 0.25),
            row("sequential/seen", "filtered", 0.5),
        ]
    }
    beams = [
        {"beams": float(n), "hr@10": 0.2, "ndcg@10": 0.1 * n, "milliseconds": 5.0 * n}
        for n in (1, 2)
    ]
    return Findings(rows, {"random": {"1": 0.1, "2": 0.2}}, beams)


def test_the_page_has_published_figures_beside_unfiltered_rows(tmp_path: Path) -> None:
    page = Page("ml-100k", "make reproduce", FACTS, made_up(), ["beams"]).write(tmp_path)
    text = page.read_text()
    unfiltered, filtered = text.split("## Unfiltered")[1], text.split("## Unfiltered")[0]
    assert "| random | sequential/seen | .2500 | .2500 | .2500 | .2500 |" in unfiltered
    assert "published by OpenP5 | .0678 | .0427 | .1208 | .0595 |" in unfiltered
    assert "| random | sequential/seen | .5000" in filtered
    assert "published by OpenP5 |" not in filtered
    assert "Not done yet: beams." in text
    document = json.loads((tmp_path / "ml-100k.json").read_text())
    assert document["left"] == ["beams"]
    assert len(document["published"]) == 4
    for chart in ("training", "latency", "beams"):
        ET.parse(tmp_path / f"ml-100k-{chart}.svg")  # noqa: S314 - our own


def test_nobody_published_figures_of_ones_own_data(tmp_path: Path) -> None:
    page = Page("shop", "make reproduce", FACTS, made_up(), []).write(tmp_path)
    assert "published by OpenP5 |" not in page.read_text()
    assert "Not done yet" not in page.read_text()


def test_epochs_become_minutes(tmp_path: Path) -> None:
    page = Page("shop", "", FACTS, made_up(), [])
    assert page._over_time("random") == [(1.0, 0.1), (2.0, 0.2)]  # 120 seconds, two epochs


def test_a_chart_places_points_in_proportion() -> None:
    chart = line_chart("a < b", "x", "y", {"one": [(0, 0), (1, 2), (2, 4)], "none": []})
    svg = ET.fromstring(chart)  # noqa: S314 - our own
    (line,) = svg.iter("{http://www.w3.org/2000/svg}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y1  # up is less
    assert "a &lt; b" in chart


def test_a_chart_of_one_point_has_a_place_for_it() -> None:
    assert "<circle" in line_chart("", "", "", {"one": [(0.0, 0.0)]})


@pytest.mark.slow
def test_an_indexing_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_shop(tmp_path).root
    monkeypatch.setattr(reproduction, "INDEXINGS", ("sequential",))
    work = Reproduction(shop_source(root), shop_config(root), False, root / "work", root / "out")
    pieces = work.pieces()

    def check() -> None:
        if pieces.left[0] == "pipeline":
            raise OutOfTime

    monkeypatch.setattr(deadline, "check", check)
    findings = Findings()
    with pytest.raises(OutOfTime):
        work.run(pieces, findings)
    assert pieces.left == ["pipeline", "beams"]
    rows = {(found["name"], found["ranking"]): found for found in findings.rows["sequential"]}
    names = [
        "sequential/seen", "sequential/unseen", "direct/seen", "direct/unseen",
        "exact", "exact/seen items as others",
    ]  # fmt: skip
    assert list(dict.fromkeys(name for name, _ in rows)) == names
    assert all(found["users"] == USERS for found in rows.values())
    # Items that are left out of the list cannot be told by how they are scored.
    same = rows["exact", "filtered"]["hr@10"]
    assert rows["exact/seen items as others", "filtered"]["hr@10"] == same
    assert len(findings.curves["sequential"]) == 1

    def forbidden(*_: object) -> None:
        raise AssertionError("this was measured before")

    monkeypatch.setattr(reproduction, "task_rows", forbidden)
    monkeypatch.setattr(reproduction, "seen_rows", forbidden)
    pieces, again = work.pieces(), Findings()
    with pytest.raises(OutOfTime):
        work.run(pieces, again)
    assert again == findings
