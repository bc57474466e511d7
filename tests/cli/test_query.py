"""`tandem recommend` and `tandem similar`, against a gateway in front of fake services."""

import json

import pytest

from core.errors import Internal
from tests.cli.command import run
from tests.cli.gateway import Gateway

pytestmark = pytest.mark.usefixtures("asked_by_default")


def test_a_table_with_titles() -> None:
    result = run("recommend", "--user", "ann", "-k", "2")
    assert result.code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:5] == [
        "History, newest last:",
        "Film 0 (1990)",
        "Film 1 (1991)",
        "Film 2 (1992)",
        "",
    ]
    assert lines[5] == "item title score retrieval generator"
    assert lines[6] == "1 i5 Film 5 (1995) War, 1995 -2.150 -1.500 -1.300"
    assert lines[-1].startswith("rerank from tiny/1; ms: history ")
    assert "search" in lines[-1]


def test_a_table_of_what_a_history_leads_to() -> None:
    result = run("recommend", "--history", "i1,ghost", "--strategy", "embedding", "-k", "1")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:4] == ["History, newest last:", "Film 1 (1991)", "ghost", ""]
    assert lines[4] == "item title score retrieval generator"
    assert lines[5] == "1 i0 Film 0 (1990) Comedy, Drama, 1990 -1.000 -1.000"
    assert lines[6] == "not in the catalog: ghost"


def test_rows_of_a_page() -> None:
    arguments = ("rows", "--user", "ann", "--strategy", "generate", "-k", "2")
    rows = ("--row", "War:genre=War", "--row", "New war:genre=War,year=1996..", "--row", "All:")
    lines = [" ".join(line.split()) for line in run(*arguments, *rows).stdout.splitlines()]
    named = [lines.index(name) for name in ("War", "New war", "All")]
    found = [[line.split()[1] for line in lines[n + 2 : n + 4]] for n in named]
    assert found == [["i5", "i10"], ["i8", "i11"], ["i3", "i6"]]
    document = json.loads(run(*arguments, *rows, "--json").stdout)
    assert [row["name"] for row in document["rows"]] == ["War", "New war", "All"]
    assert run(*arguments, "--row", ":genre=War").code == 2
    assert run("rows", "--row", "All:").code == 2


def test_boosts_and_pages() -> None:
    arguments = (
        "recommend", "--user", "ann", "--strategy", "embedding", "--page-size", "2",
        "-k", "4", "--boost", "genre=War:0.25", "--boost", "year=1995:-1",
    )  # fmt: skip
    first = run(*arguments)
    assert first.code == 0, first.stderr
    token = first.stdout.partition("--page-token ")[2].split()[0]
    second = json.loads(run(*arguments, "--page-token", token, "--json").stdout)
    # A quarter of 16 places: i4, 4 up, i3, i8, 4 up, i6, and behind it i10, 4 up.
    assert [item["item_id"] for item in second["recommendations"]] == ["i8", "i6"]
    assert second["next_page_token"] == ""
    assert run("recommend", "--user", "ann", "--boost", "genre=War").code == 2
    other = run("recommend", "--user", "bob", "--page-token", token)
    assert "INVALID_ARGUMENT: page_token is not from this list" in other.stderr


def test_diagnostics() -> None:
    result = run(
        "recommend", "--user", "ann", "-k", "2", "--strategy", "embedding", "--pin", "i11=1",
        "--cap", "genre=1", "--diagnostics",
    )  # fmt: skip
    assert result.code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    told = lines[lines.index("1 i11 Film 11 (2001)") :]
    assert told[:7] == [
        "1 i11 Film 11 (2001)",
        "retrieval 1 × query_encoder -2.100",
        "history i2 Film 2 (1992) +0.500",
        "code <a_11> -3.100 = -3.100",
        "rule pinned: – → 1, pinned to place 1",
        "2 i3 Film 3 (1993)",
        "steps search 1 -1.300",
    ]
    assert "left out i4 Film 4 (1994)" in told
    assert "rule pinned: 2 → out, gave way to a pinned item" in told


def test_only_some_items_are_chosen_from() -> None:
    result = run(
        "recommend", "--user", "ann", "--strategy", "embedding", "--only", "i5,i7", "--json"
    )
    found = json.loads(result.stdout)["recommendations"]
    assert sorted(item["item_id"] for item in found) == ["i5", "i7"]


def test_what_an_answer_lacks_is_said(gateway: Gateway) -> None:
    result = run("recommend", "--user", "ann", "-k", "1", "--pin", "nowhere=1")
    assert "not in the catalog: nowhere" in result.stdout
    gateway.stack.generator.failure = Internal("gone", reason="GONE")
    try:
        result = run("recommend", "--user", "ann", "-k", "1")
        assert "without rerank (SERVICE_FAILED), retrieval instead" in result.stdout
        result = run("recommend", "--user", "ann", "-k", "1", "--forbid-degraded")
        assert result.code == 1
    finally:
        gateway.stack.generator.failure = None


def test_json() -> None:
    result = run(
        "recommend", "--user", "ann", "--strategy", "fuse", "--filter", "year=1999..",
        "--filter", "genre!=War", "--exclude", "i9, i10", "--include-seen", "--json",
    )  # fmt: skip
    document = json.loads(result.stdout)
    # Nothing is shortlisted, so there is nothing to fuse.
    assert document["strategy"] == "STRATEGY_GENERATE"
    assert document["bundle_version"] == "tiny/1"
    assert document["recommendations"] == []


def test_json_with_titles() -> None:
    result = run("recommend", "--user", "ann", "-k", "1", "--json")
    (item,) = json.loads(result.stdout)["recommendations"]
    assert (item["item_id"], item["title"]) == ("i5", "Film 5 (1995)")
    assert item["score"] == pytest.approx(item["retrieval_score"] + 0.5 * item["generator_score"])


def test_similar() -> None:
    result = run("similar", "--item", "i1,ghost")
    assert "Film 7 (1997)" in result.stdout
    assert "not in the catalog: ghost" in result.stdout
    document = json.loads(run("similar", "--text", "a war film", "--json").stdout)
    (item,) = document["items"]
    assert (item["item_id"], item["score"], item["title"]) == ("i7", 0.5, "Film 7 (1997)")
    assert item["attributes"]["genre"] == {"values": [{"text": "Drama"}]}
    assert run("similar", "--item", "i1", "--min-score", "0.4", "--diversity", "0.3").code == 0
    assert run("similar", "--item", "i1", "--diversity", "1.5").code == 2


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


def test_a_table_of_predicted_ratings() -> None:
    result = run("ratings", "--user", "ann", "--item", "i7,i3,ghost", "--rated", "i1=4.5")
    assert result.code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "item title rating",
        "1 i3 Film 3 (1993) Comedy 3.500",
        "2 i7 Film 7 (1997) Drama 2.500",
        "not in the catalog: ghost",
        "from tiny/1",
    ]


def test_ratings_for_programs() -> None:
    result = run("ratings", "--item", "i3", "--json")
    assert json.loads(result.stdout)["ratings"] == [{"item_id": "i3", "rating": 3.5}]


def test_a_rating_that_is_no_number() -> None:
    result = run("ratings", "--item", "i3", "--rated", "i1=good")
    assert result.code == 2
    assert "50=4.5" in result.stderr
