"""Every alert fires where it should and nowhere else, and somebody is told what to do about it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfile import REPOSITORY
from tests.deploy.monitoring.prometheus import RULES, program

FIRED = Path(__file__).with_name("alerts.yaml")
RUNBOOKS = REPOSITORY / "docs" / "runbooks.md"


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for rule in group["rules"] if "alert" in rule]


def test_prometheus_fires_them_where_they_should() -> None:
    command = [program("promtool"), "test", "rules", str(FIRED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_made_to_fire(alerts: list[dict[str, Any]]) -> None:
    tests = yaml.safe_load(FIRED.read_text(encoding="utf-8"))["tests"]
    fired = {
        each["alertname"]
        for test in tests
        for each in test.get("alert_rule_test", ())
        if each["exp_alerts"]
    }
    assert fired == {alert["alert"] for alert in alerts}


def test_each_alert_names_its_runbook(alerts: list[dict[str, Any]]) -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [alert["alert"] for alert in alerts]
    for alert in alerts:
        runbook = f"docs/runbooks.md#{alert['alert'].lower()}"
        assert alert["annotations"]["runbook"] == runbook
