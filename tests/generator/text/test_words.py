"""Words out of tokens, and tokens out of logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from services.generator.text.deltas import Deltas
from services.generator.text.sampling import Chooser, Sampling, nucleus


def by_byte(text: str) -> list[str]:
    """What is said of a text whose tokens are the bytes of its UTF-8."""
    deltas = Deltas(lambda tokens: bytes(tokens).decode(errors="replace"))
    return [*map(deltas.add, text.encode()), deltas.finish()]


@given(st.text(alphabet="ab é日本.\n😀", max_size=30))
def test_words_add_up_to_the_text(text: str) -> None:
    said = by_byte(text)
    assert "".join(said) == text
    assert not any("\ufffd" in delta for delta in said)


def test_half_a_word_is_held_back() -> None:
    assert [delta for delta in by_byte("It is für 日本 good.") if delta] == [
        "It", " is", " für", " 日", "本", " good.",
    ]  # fmt: skip


def test_half_a_character_at_the_end_is_dropped() -> None:
    deltas = Deltas(lambda tokens: bytes(tokens).decode(errors="replace"))
    assert [deltas.add(byte) for byte in "a é".encode()[:-1]] == ["", "a", ""]
    assert deltas.finish() == " "


LOGITS = arrays(np.float32, st.integers(1, 20), elements=st.floats(-5, 5, width=32))


@given(LOGITS, st.floats(0.01, 1.0))
def test_a_nucleus_is_the_smallest_with_its_share(
    logits: NDArray[np.float32], top_p: float
) -> None:
    likely, shares = nucleus(logits, top_p)
    every = np.exp(logits.astype(np.float64))
    every /= every.sum()
    np.testing.assert_allclose(shares, every[likely], rtol=1e-5)
    left_out = np.setdiff1d(np.arange(len(logits)), likely)
    assert every[left_out].max(initial=0.0) <= shares.min() + 1e-6
    assert shares[:-1].sum() <= top_p + 1e-6
    assert shares.sum() >= min(top_p, 1.0) - 1e-6


def test_draws_as_often_as_is_likely() -> None:
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    chooser = Chooser(Sampling(0.9, seed=0))
    drawn = [chooser.choose(np.log(shares).astype(np.float32)) for _ in range(4_000)]
    counts = np.bincount(drawn, minlength=4) / len(drawn)
    assert counts[3] == 0  # behind nine tenths
    assert counts[:3] == pytest.approx(shares[:3] / 0.95, abs=0.03)


def test_takes_the_likeliest_without_a_share() -> None:
    logits = np.array([0.1, 2.0, 2.0, -1.0], np.float32)
    assert Chooser(None).choose(logits) == 1
    assert Chooser(Sampling(1e-9, seed=3)).choose(logits) == 1
