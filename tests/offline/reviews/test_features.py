"""Feature words, and the sentences that explain by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.reviews.features import Features, sentences, words_of

STRAP = "I like it. The strap is long! My guitar hangs well."
REVIEWS = (
    [(0, STRAP)] * 3 + [(1, "The guitar has a dark tone.")] * 3 + [(2, "Fine. Good thing.")] * 4
)


def features() -> Features:
    return Features.of(REVIEWS, least=3, largest_share=0.7)


def test_frequent_words_are_features() -> None:
    assert set(features().weight) == {
        "like", "strap", "long", "guitar", "hangs", "dark", "tone", "fine", "good", "thing",
    }  # fmt: skip


def test_words_in_too_many_reviews_are_none() -> None:
    assert "guitar" not in Features.of(REVIEWS, least=3, largest_share=0.5).weight


def test_function_words_are_none() -> None:
    assert words_of("The strap, it is THE best of them") == ["strap", "best"]


def test_a_review_is_about_what_is_its_items_own() -> None:
    text = "A guitar with a dark tone."
    assert features().explanation(1, text) == ("dark", text)
    assert features().explanation(0, "No strap. On a guitar.") == ("strap", "No strap.")


def test_the_first_sentence_with_the_word_explains() -> None:
    assert features().explanation(0, "Hello there. A strap. One more strap.")[1] == "A strap."


def test_without_a_feature_the_first_sentence_explains() -> None:
    assert features().explanation(0, "Nothing known. At all.") == (None, "Nothing known.")


@pytest.mark.parametrize("text", ["", "!?", "  "])
def test_a_text_without_words_explains_nothing(text: str) -> None:
    assert features().explanation(0, text) == (None, "")


@given(st.text(alphabet="abc .!?", max_size=60))
def test_an_explanation_is_a_sentence_that_holds_its_word(text: str) -> None:
    known = Features.of([(0, "abc aab"), (1, "bca cab")], least=1, largest_share=1.0)
    feature, sentence = known.explanation(0, text)
    assert sentence in ("", *sentences(text))
    assert feature is None or feature in words_of(sentence)


def test_the_top_words_of_an_item_are_its_own() -> None:
    assert features().top(1, 2) == ["dark", "tone"]
