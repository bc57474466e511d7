"""`tandem history`, against a gateway that keeps its histories in a file."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.cli.command import run
from tests.cli.gateway import Gateway
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    bundle = write_tiny_bundle(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TANDEM_BUNDLE", raising=False)
    with capture_logs(), Gateway(bundle, history=str(tmp_path / "history.sqlite")) as gateway:
        monkeypatch.setenv("TANDEM_ADDRESS", gateway.address)
        yield gateway


def test_record_and_show(gateway: Gateway) -> None:
    recorded = run(
        "history", "record", "--user", "dee", "--item", "i3, i4", "--event-id", "order-7",
        "--time", "2026-01-31T12:00:00Z",
    )  # fmt: skip
    assert recorded.stdout == "recorded 2 events\n"
    again = run("history", "record", "--user", "dee", "--item", "i3,i4", "--event-id", "order-7")
    assert again.stdout == "recorded 0 events, 2 known already\n"
    shown = run("history", "show", "--user", "dee")
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert lines[1:] == [
        "2026-01-31 12:00:00 interaction i4 Film 4 (1994) order-7-1",
        "2026-01-31 12:00:00 interaction i3 Film 3 (1993) order-7-0",
    ]
    document = json.loads(run("history", "show", "--user", "dee", "-k", "1", "--json").stdout)
    assert document["events"] == [
        {
            "event_id": "order-7-1",
            "user_id": "dee",
            "item_id": "i4",
            "event_time": "2026-01-31T12:00:00.000001Z",
        }
    ]


def test_record_says_what_a_user_did(gateway: Gateway) -> None:
    flags = ("--type", "purchase", "--value", "9.5", "--recommendation-id", "none of ours")
    recorded = run("history", "record", "--user", "dee", "--item", "i3", *flags)
    assert recorded.stdout == "recorded 1 events, 1 of no known recommendation\n"
    (event,) = json.loads(run("history", "show", "--user", "dee", "--json").stdout)["events"]
    assert (event["type"], event["value"], "recommendation_id" in event) == ("purchase", 9.5, False)


def test_import_a_bundle(gateway: Gateway) -> None:
    path = str(gateway.bundle)
    assert run("history", "import", path).stdout == "recorded 4 events\n"
    assert run("history", "import", path).stdout == "recorded 0 events, 4 known already\n"
    shown = json.loads(run("history", "show", "--user", "ann", "--json").stdout)
    assert [event["item_id"] for event in shown["events"]] == ["i2", "i1", "i0"]


def test_import_a_file(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [{"event_id": f"e{n}", "user_id": "dee", "item_id": f"i{n % 12}"} for n in range(2_500)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert run("history", "import", str(file)).stdout == "recorded 2,500 events\n"
    file.write_text('{"event_id": "e", "nonsense": 1}\n', encoding="utf-8")
    failed = run("history", "import", str(file))
    assert failed.code == 1
    assert "events.jsonl, line 1, is no event" in failed.stderr


def test_delete_a_user(gateway: Gateway) -> None:
    run("history", "record", "--user", "dee", "--item", "i3")
    assert run("history", "delete-user", "dee").code == 1  # nobody confirms
    assert run("history", "delete-user", "dee", "--yes").stdout == "deleted 1 events of user dee\n"
    gone = run("history", "show", "--user", "dee")
    assert (gone.code, "UNKNOWN_USER" in gone.stderr) == (1, True)


def test_export_a_user(gateway: Gateway) -> None:
    run("history", "record", "--user", "dee", "--item", "i3", "--type", "impression")
    lines = run("history", "export-user", "dee").stdout.splitlines()
    (stored,) = map(json.loads, lines)
    assert (stored["event"]["item_id"], stored["event"]["type"]) == ("i3", "impression")
    gone = run("history", "export-user", "nobody")
    assert (gone.code, "UNKNOWN_USER" in gone.stderr) == (1, True)


def test_merge_users(gateway: Gateway) -> None:
    run("history", "record", "--user", "anon", "--item", "i3", "--event-id", "e")
    assert run("history", "merge-users", "anon", "dee").code == 1  # nobody confirms
    merged = "events of user anon into user dee, 0 known already, 0 older than what is kept\n"
    for count in (1, 0):
        done = run("history", "merge-users", "anon", "dee", "--yes")
        assert done.stdout == f"merged {count} {merged}"
    assert run("history", "show", "--user", "anon").code == 1


def test_no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_ADDRESS", "127.0.0.1:1")
    result = run("history", "show", "--user", "ann")
    assert (result.code, "no gateway answers" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    "command", ["import", "record", "show", "export-user", "merge-users", "delete-user"]
)
def test_help_teaches(command: str) -> None:
    result = run("history", command, "--help")
    assert result.code == 0
    assert "tandem history" in result.stdout
