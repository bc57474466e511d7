"""`tandem explain` and `tandem recommend --explain`, against a writer whose words are foretold."""

import json

import pytest

from core.errors import FailedPrecondition
from tests.cli.command import run
from tests.cli.gateway import Gateway

pytestmark = pytest.mark.usefixtures("asked_by_default")


def test_words_are_called_generated_text() -> None:
    result = run("explain", "--user", "ann", "--item", "i5", "--feature", "sound")
    assert result.code == 0, result.stderr
    first, last = result.stdout.splitlines()
    assert first == "Generated text: You would like i5 after i0 i1 i2"
    assert last.startswith("8 tokens from tiny/1; ms: first 1.0")


def test_json_has_the_text_and_its_end() -> None:
    result = run("explain", "--history", "i7", "--item", "i5", "--json")
    document = json.loads(result.stdout)
    assert document["generated_text"] == "You would like i5 after i7"
    assert document["end"]["reason"] == "STOP_REASON_END"
    assert document["bundle_version"] == "tiny/1"


def test_a_list_is_followed_by_generated_text() -> None:
    plain = run("recommend", "--user", "ann", "-k", "2", "--diagnostics").stdout.splitlines()
    result = run("recommend", "--user", "ann", "-k", "2", "--diagnostics", "--explain")
    assert result.code == 0, result.stderr
    lines = result.stdout.splitlines()
    title = lines.index("Generated text (a model's words, not why they are listed)")
    # What there was before is as it was, but for its times.
    assert lines[: len(plain) - 1] == plain[:-1]
    assert title == len(plain) + 1
    assert lines[title + 1 :] == [
        "Film 5 (1995): You would like i5 after i0 i1 i2",
        "Film 3 (1993): You would like i3 after i0 i1 i2",
    ]


def test_a_bundle_without_text_says_so(gateway: Gateway) -> None:
    gateway.stack.generator.failures = [FailedPrecondition("it writes none", reason="NO_TEXT")]
    result = run("explain", "--user", "ann", "--item", "i5")
    assert result.code == 1
    assert "NO_TEXT" in result.stderr


def test_wants_somebody_to_explain_to() -> None:
    assert run("explain", "--item", "i5").code == 2
    assert run("recommend", "--user", "ann", "--explain", "--json").code == 2
