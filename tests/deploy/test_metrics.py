"""The documents and the rules name the metrics that there are, and every reason is one of a set."""

import json
import re
from typing import Any

import pytest
import yaml

from serving.telemetry.metrics import CODES
from serving.telemetry.reasons import REASONS
from tests.deploy.dockerfile import PROCESSES, REPOSITORY
from tests.deploy.metrics_table import DOCUMENT, Metric, metrics_of, replace_table
from tests.deploy.monitoring.prometheus import RULES

DASHBOARD = REPOSITORY / "deploy" / "grafana" / "tandem.json"
METRICS = {metric.name: metric for process in PROCESSES for metric in metrics_of(process)}
RUNBOOKS = REPOSITORY / "docs" / "runbooks.md"
NAME = re.compile(r"\btandem_[a-z_]+")


def base_of(name: str) -> str:
    """A metric's name, without what the series of a histogram add."""
    short = re.sub(r"_(bucket|sum|count)$", "", name)
    return short if short in METRICS else name


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_the_table_of_metrics_is_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replace_table(text) == text, "run python -m tests.deploy.metrics_table"


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert re.fullmatch(r"tandem_[a-z]+(_[a-z]+)+", metric.name)
    assert metric.meaning.endswith(".")
    assert not set(metric.labels) & {"le", "quantile", "job", "instance", "user", "user_id"}


def test_queries_name_metrics_that_there_are(rules: list[dict[str, Any]]) -> None:
    queries = [rule["expr"] for rule in rules]
    queries += re.findall(r"^\| .*\? \| `(.+)` \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    queries += [target["expr"] for panel in panels for target in panel.get("targets", ())]
    queries += re.findall(r"`([^`]+)`", RUNBOOKS.read_text(encoding="utf-8"))
    named = {base_of(name) for query in queries for name in NAME.findall(query)}
    assert named <= METRICS.keys()


def test_rules_select_labels_that_there_are(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        for name, selectors in re.findall(r"\b(tandem_[a-z_]+)\{(.+?)\}", rule["expr"]):
            labels = re.findall(r"(\w+)(?:=|!)", selectors)
            known = {*METRICS[base_of(name)].labels, *(["le"] if name.endswith("_bucket") else ())}
            assert set(labels) <= known, rule
        for reason in re.findall(r"[A-Z]+_[A-Z_]+|OVERLOADED", rule["expr"]):
            assert reason in REASONS | CODES, rule


def test_every_alert_is_explained(rules: list[dict[str, Any]]) -> None:
    explained = re.findall(r"^\| `(Tandem\w+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert explained == [rule["alert"] for rule in rules if "alert" in rule]


def test_recorded_series_are_those_that_queries_use(rules: list[dict[str, Any]]) -> None:
    recorded = {rule["record"] for rule in rules if "record" in rule}
    used = {name for rule in rules for name in re.findall(r"tandem:[\w:]+", rule["expr"])}
    assert used <= recorded
    assert set(re.findall(r"tandem:[\w:]+", DOCUMENT.read_text("utf-8"))) == recorded


def test_the_set_of_reasons_is_that_of_the_documents() -> None:
    operations = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([A-Z][A-Z_]+)` \|", operations, re.MULTILINE))
    assert explained == REASONS, (
        "serving/telemetry/reasons.py has all, so that metrics can count by them"
    )
