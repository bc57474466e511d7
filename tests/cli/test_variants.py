"""`tandem variants`, and `tandem recommend` with a variant or a serving configuration."""

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.cli.command import run
from tests.cli.gateway import Gateway
from tests.tiny_bundle import write_tiny_bundle

TEXT = """
[configs.short]
max_results = 2
diversity = 0.5
[variants.control]
percent = 75
[variants.next]
percent = 25
strategy = "embedding"
bundle_version = "tiny/1"
[variants.next.canary]
[variants.apart]
percent = 0
bundle = "fr"
[shadow]
variant = "next"
share = 0.05
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serving.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_check_says_what_a_file_has(file: Path) -> None:
    result = run("variants", "check", str(file))
    assert result.code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "configuration short",
        "variant control: 75% of the users",
        "variant next: 25% of the users, by tiny/1; a canary, withdrawn beyond 2.0% more bad "
        "answers or 1.5 times the latency of the others, after 100 calls in 60 s",
        "variant apart: 0% of the users, by bundle fr",
        "shadow next: 5.0% of the calls",
    ]


def test_check_says_what_is_wrong(file: Path) -> None:
    file.write_text(TEXT.replace("75", "70"), encoding="utf-8")
    result = run("variants", "check", str(file))
    assert result.code == 1
    assert "serving.toml: variants: the percents add up to 95, not to 100" in result.stderr


def test_assign_says_what_a_gateway_does(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"u{n}" for n in range(8)]
    result = run("variants", "assign", str(file), *users)
    assigned = dict(line.split("\t") for line in result.stdout.splitlines())
    assert set(assigned.values()) == {"control", "next"}
    monkeypatch.chdir(tmp_path)
    with capture_logs(), Gateway(write_tiny_bundle(tmp_path), serving_file=file) as gateway:
        monkeypatch.setenv("TANDEM_ADDRESS", gateway.address)
        for user, variant in assigned.items():
            shown = run("recommend", "--user", user, "--history", "i0")
            assert f"from tiny/1, variant {variant}; ms" in shown.stdout
        named = ("--variant", "next", "--serving-config", "short", "--json")
        shown = run("recommend", "--user", "ann", *named)
        answer = json.loads(shown.stdout)
        assert (answer["variant"], answer["strategy"]) == ("next", "STRATEGY_EMBEDDING")
        assert len(answer["recommendations"]) == 2
