"""`tandem bundle list|verify|show`."""

import json
from pathlib import Path

import pytest

from tests.cli.command import run
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    rows = [{"name": "pipeline", "ranking": "filtered", "ndcg@10": 0.12345}]
    write_tiny_bundle(tmp_path, "1", metrics={"rows": rows})
    return write_tiny_bundle(tmp_path, "2")


def test_list_marks_the_current_one(bundle: Path) -> None:
    result = run("bundle", "list", "--root", str(bundle.parents[1]))
    first, second = result.stdout.splitlines()[1:]
    assert first.split()[:3] == ["tiny/1", "12", "3"]
    assert first.split()[-1] == "0.1235"
    assert second.split()[:2] == ["*", "tiny/2"]


def test_list_shows_what_is_broken_beside_what_is_not(bundle: Path) -> None:
    (bundle.parent / "1" / "manifest.json").write_text("{")
    result = run("bundle", "list", "--root", str(bundle.parents[1]))
    assert "not a manifest" in " ".join(result.stdout.split())
    assert "tiny/2" in result.stdout


def test_list_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    result = run("bundle", "list", "--root", str(tmp_path))
    assert result.code == 1
    assert result.stderr == f"tandem: no bundle under {tmp_path}; make one with `tandem build`\n"


def test_verify(bundle: Path) -> None:
    result = run("bundle", "verify", str(bundle))
    assert result.code == 0
    assert result.stdout.startswith("tiny/2 is whole: 4 files, 0.0 MiB, 12 items")
    (bundle / "users.json").write_text("[]")
    result = run("bundle", "verify", str(bundle))
    assert (result.code, result.stdout) == (1, "")
    assert "users.json is not the file that the manifest describes" in result.stderr
    assert result.stderr.count("\n") == 1


def test_show(bundle: Path) -> None:
    result = run("bundle", "show", str(bundle))
    assert "retrieval_weight" in result.stdout
    assert "catalog.jsonl" in result.stdout
    document = json.loads(run("bundle", "show", str(bundle), "--json").stdout)
    assert document["version"] == "2"


def test_show_says_why_the_default_strategy_is_what_it_is(tmp_path: Path) -> None:
    validation = {
        "sources": [{"source": "content", "reason": "content: +.0001 NDCG@10, left out"}],
        "default_strategy": "rerank: .1329 (best)",
    }
    path = write_tiny_bundle(tmp_path, metrics={"validation": validation})
    lines = run("bundle", "show", str(path)).stdout.splitlines()
    assert lines[-2:] == [
        "content: +.0001 NDCG@10, left out",
        "default strategy rerank: .1329 (best)",
    ]
