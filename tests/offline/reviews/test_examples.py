"""What the families that write text are asked."""

import dataclasses

import numpy as np

from offline.dataset.reviews import Reviews
from offline.reviews.examples import Written
from offline.reviews.held_out import HeldOut, read_held_out, sample, write_held_out
from offline.reviews.parts import Part
from tests.offline.reviews.made_up import THINGS, reviewed, written


def test_explanations_are_about_their_items_feature() -> None:
    examples = written().examples("explanation", Part.TRAINING)
    assert examples
    assert all(example.feature == THINGS[example.item] for example in examples)
    assert all(e.target == f"The {e.feature} is what makes it." for e in examples)


def test_summaries_are_asked_of_reviews_with_both() -> None:
    data = reviewed()
    assert data.reviews is not None
    some = tuple(text if row % 2 else "" for row, text in enumerate(data.reviews.texts))
    made = written(dataclasses.replace(data, reviews=Reviews(some, data.reviews.summaries)))
    examples = [example for part in Part for example in made.examples("review", part)]
    assert len(examples) == len(some) // 2
    assert all(example.text and example.target for example in examples)


def test_histories_end_before_what_is_asked_about() -> None:
    made = written()
    for part in Part:
        for example in made.examples("explanation", part):
            history = made.data.history(example.user)
            place = len(example.history)
            assert np.array_equal(example.history, history[:place])
            assert history[place] == example.item


def test_training_texts_are_those_of_training() -> None:
    data = reviewed()
    assert data.reviews is not None
    numbered = tuple(f"review {row}" for row in range(len(data.item_index)))
    made = Written.of(data, Reviews(numbered, numbered))
    rows = {int(text.split()[1]) for text in made.training_texts()}
    assert rows == set(np.flatnonzero(made.parts == Part.TRAINING).tolist())


def test_held_out_examples_survive_writing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = written()
    held = HeldOut(
        sample(made, "review", Part.VALIDATION), sample(made, "review", Part.TEST), ["a thing"]
    )
    write_held_out({"review": held}, tmp_path)
    read = read_held_out(tmp_path / "held_out_texts.json", "review")
    assert read is not None
    assert read.constants == held.constants
    for ours, theirs in zip(held.test, read.test, strict=True):
        assert (ours.user, ours.item, ours.text, ours.target) == (
            theirs.user, theirs.item, theirs.text, theirs.target,
        )  # fmt: skip
        assert np.array_equal(ours.history, theirs.history)
    assert read_held_out(tmp_path / "held_out_texts.json", "explanation") is None
