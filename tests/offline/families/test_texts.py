"""Figures of written texts, against those worked out by hand."""

import math

import pytest

from offline.evaluate.families.constants import best_constants, candidates
from offline.evaluate.families.texts import TextScores


def test_equal_texts_reach_everything() -> None:
    texts = ["the strap is very long", "a cable that is good"]
    row = TextScores.of(texts, texts).row("equal")
    assert [row.figures[name].value for name in ("BLEU-4", "ROUGE-1", "ROUGE-2", "ROUGE-L")] == [
        pytest.approx(100.0)
    ] * 4
    assert row.figures["distinct"].value == 100


def test_bleu_is_of_all_texts_together() -> None:
    # Matching n-grams 4+5, 3+4, 2+3, 1+2 of 5+5, 4+4, 3+3, 2+2; no brevity penalty.
    written = ["a b c d x", "p q r s t"]
    wanted = ["a b c d e", "p q r s t"]
    expected = 100 * (9 / 10 * 7 / 8 * 5 / 6 * 3 / 4) ** 0.25
    assert TextScores.of(written, wanted).bleu4() == pytest.approx(expected)


def test_short_texts_pay_for_brevity() -> None:
    scores = TextScores.of(["a b c d"], ["a b c d e f"])
    assert scores.bleu4() == pytest.approx(100 * math.exp(1 - 6 / 4))


def test_rouge_is_the_mean_of_f_measures() -> None:
    # Words in common 2 of 3 and 4; pairs 1 of 2 and 3; the longest common order has 2.
    scores = TextScores.of(["the strap broke", "x"], ["the strap is fine", "y"])
    one, two = 2 * 2 / 7, 2 * 1 / 5
    assert scores.rouge.mean(axis=0).tolist() == pytest.approx([50 * one, 50 * two, 50 * one])


def test_capitals_do_not_count() -> None:
    row = TextScores.of(["the long strap is good"], ["The long Strap is good"]).row("")
    assert row.figures["BLEU-4"].value == pytest.approx(100.0)


def test_intervals_hold_their_figures() -> None:
    written = [f"the {word} is a good thing" for word in "abcdefghij"]
    wanted = [f"the {word} is a good thing" for word in "abcdexxxxx"]
    for name, figure in TextScores.of(written, wanted).row("").figures.items():
        if name != "distinct":
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low < figure.value < figure.high


def test_repeated_texts_are_not_distinct() -> None:
    assert TextScores.of(["a", "a", "b", "a"], ["c"] * 4).row("").figures["distinct"].value == 50


def test_the_best_constant_is_chosen_by_each_figure() -> None:
    wanted = ["the strap is really very long", "one two three"]
    constants = best_constants(["the strap is really very long", "two three", "zero"], wanted)
    assert constants["BLEU-4"] == "the strap is really very long"
    assert constants["ROUGE-L"] == "the strap is really very long"


def test_candidates_are_near_to_many_texts() -> None:
    texts = [f"the {word} is good for all" for word in "bcdefghijk"] + ["unlike others"]
    found = candidates(texts)
    assert found[-1] == "unlike others" or "unlike others" not in found[:5]
    assert set(found) <= set(texts)
    assert candidates([]) == []
