"""The record of changes: who, what kind, how many, and what became of it; and nothing else."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from core.errors import NotFound, Unavailable
from serving.security.audit import audited
from serving.security.guard import Guard
from serving.security.keys_file import watch_keys
from serving.security.rights import RULES, Right
from tandem import AsyncClient, Error, event
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tests.gateway.stack import Stack, running
from tests.serving.security.credentials import KeysFile
from tests.tiny_bundle import write_tiny_bundle

UPSERT = "/tandem.v1.CatalogService/UpsertItems"


@pytest.fixture
def key(tmp_path: Path) -> str:
    return KeysFile(tmp_path / "keys.toml").add("ops", Right)


@pytest.fixture
async def stack(tmp_path: Path, key: str) -> AsyncIterator[Stack]:
    guard = Guard(watch_keys(tmp_path / "keys.toml"))
    history = str(tmp_path / "history.sqlite")
    bundle = write_tiny_bundle(tmp_path)
    async with running(bundle, guard=guard, history=history) as stack:
        yield stack


def audits(logs: list[Any]) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == "audit"]


async def test_a_deletion_says_who_and_not_whom(stack: Stack, key: str) -> None:
    with capture_logs() as logs:
        async with AsyncClient(stack.address, timeout=30, key=key) as client:
            await client.record_events([event("secret-user", "i1"), event("secret-user", "i2")])
            await client.delete_user("secret-user")
            with pytest.raises(Error):
                await client.delete_user("")
    recorded, deleted, failed = audits(list(logs))
    assert (recorded["what"], recorded["count"], recorded["log_level"]) == ("events", 2, "debug")
    assert deleted == {
        "event": "audit",
        "log_level": "info",
        "caller": "key:ops",
        "method": "/tandem.v1.RecommendationService/DeleteUser",
        "what": "user_id",
        "count": 1,
        "outcome": "OK",
    }
    assert failed["outcome"] == "EMPTY_ID"
    for secret in ("secret-user", key, key.partition(".")[2]):
        assert secret not in str(logs)


async def test_reading_is_not_recorded(stack: Stack, key: str) -> None:
    with capture_logs() as logs:
        async with AsyncClient(stack.address, timeout=30, key=key) as client:
            await client.recommend(history=["i1"])
            await client.get_items(["i1"])
    assert audits(list(logs)) == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("x", reason="STORE_FAILED"), "STORE_FAILED"),
        (NotFound("x", reason="UNKNOWN"), "UNKNOWN"),
        (ZeroDivisionError(), "INTERNAL"),
    ],
)
def test_what_became_of_it_is_said(error: Exception, outcome: str) -> None:
    request = catalog_pb.UpsertItemsRequest(items=[catalog_pb.NewItem(item_id="a")] * 3)
    with capture_logs() as logs, pytest.raises(type(error)), audited(UPSERT, request):
        raise error
    (line,) = audits(list(logs))
    assert (line["what"], line["count"], line["outcome"]) == ("items", 3, outcome)


def test_every_change_of_the_contract_is_recorded() -> None:
    """What cannot be undone by asking again."""
    recorded = {path.rpartition("/")[2] for path, rule in RULES.items() if rule.changes}
    assert {"UpsertItems", "DeleteItems", "DeleteUser", "RecordEvents"} <= recorded


def test_no_log_level_ends_the_record() -> None:
    program = (
        "import sys\n"
        "from serving.security.audit import audited\n"
        "from serving.telemetry.logs import configure_logging\n"
        "from tandem.v1.catalog_service_pb2 import DeleteItemsRequest\n"
        "configure_logging('candidate', 'error', as_json=True, stream=sys.stderr)\n"
        "with audited('/tandem.v1.CatalogService/DeleteItems', DeleteItemsRequest()): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert '"event": "audit"' in done.stderr
