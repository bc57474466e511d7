"""`tandem recommend` and `tandem similar`, against a gateway in front of fake services."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.cli.command import run
from tests.cli.gateway import Gateway
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("query"))
    with capture_logs(), Gateway(bundle) as gateway:  # what it logs would be on our stdout
        yield gateway


@pytest.fixture(autouse=True)
def without_the_demo(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TANDEM_ADDRESS", gateway.address)
    monkeypatch.delenv("TANDEM_BUNDLE", raising=False)


def test_a_table_with_titles(gateway: Gateway) -> None:
    result = run("recommend", "--user", "ann", "-k", "2", "--bundle", str(gateway.bundle))
    assert result.code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:5] == ["History:", "Film 0 (1990)", "Film 1 (1991)", "Film 2 (1992)", ""]
    assert lines[5] == "item title score retrieval generator"
    assert lines[6] == "1 i5 Film 5 (1995) War, 1995 -2.150 -1.500 -1.300"
    assert lines[-1].startswith("rerank from tiny/1; ms: history ")
    assert "search" in lines[-1]


def test_a_table_without_a_bundle() -> None:
    result = run("recommend", "--history", "i1,ghost", "--strategy", "embedding", "-k", "1")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "item score retrieval generator"
    assert lines[1] == "1 i0 -1.000 -1.000"
    assert lines[2] == "not in the catalog: ghost"


def test_json(gateway: Gateway) -> None:
    result = run(
        "recommend", "--user", "ann", "--strategy", "fuse", "--filter", "year=1999..",
        "--filter", "genre!=War", "--exclude", "i9, i10", "--include-seen", "--json",
        "--bundle", str(gateway.bundle),
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert document["strategy"] == "STRATEGY_FUSE"
    assert document["bundle_version"] == "tiny/1"
    assert document["recommendations"] == []


def test_json_with_titles(gateway: Gateway) -> None:
    result = run("recommend", "--user", "ann", "-k", "1", "--json", "--bundle", str(gateway.bundle))
    (item,) = json.loads(result.stdout)["recommendations"]
    assert (item["item_id"], item["title"]) == ("i5", "Film 5 (1995)")
    assert item["score"] == pytest.approx(item["retrieval_score"] + 0.5 * item["generator_score"])


def test_similar(gateway: Gateway) -> None:
    result = run("similar", "--item", "i1,ghost", "--bundle", str(gateway.bundle))
    assert "Film 7 (1997)" in result.stdout
    assert "not in the catalog: ghost" in result.stdout
    document = json.loads(run("similar", "--text", "a war film", "--json").stdout)
    assert document["items"] == [{"item_id": "i7", "score": 0.5}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--user", "nobody"), "NOT_FOUND: user 'nobody' has no stored history"),
        (("--user", "ann", "-k", "-1"), "INVALID_ARGUMENT: max_results is -1"),
        (("--user", "ann", "--filter", "genres=x"), "no item has an attribute 'genres'"),
    ],
)
def test_what_the_gateway_refuses_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = run("recommend", *arguments)
    assert result.code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
