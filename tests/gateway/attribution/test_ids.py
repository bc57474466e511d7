"""The id of an answer: it says what the answer showed, and nobody else can make one."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attribution.ids import (
    MAX_BYTES,
    MAX_ITEMS,
    STRATEGIES,
    Listed,
    RecommendationIds,
)
from gateway.history.event import Shown

IDS = RecommendationIds(b"k" * 32)
scores = st.floats(width=32, allow_nan=False)
lists = st.lists(
    st.builds(Listed, st.text(min_size=1), scores), max_size=30, unique_by=lambda i: i[0]
)


@given(
    items=lists,
    strategy=st.sampled_from(STRATEGIES),
    version=st.text(max_size=40),
    start=st.integers(0, 100),
    variant=st.text(max_size=16),
)
def test_an_id_says_what_was_shown(
    items: list[Listed], strategy: str, version: str, start: int, variant: str
) -> None:
    made = IDS.make(items, strategy, version, start=start, variant=variant)
    found = IDS.read(made)
    assert found is not None
    assert made.startswith(found.name)
    for place, (item_id, score) in enumerate(items, start=start + 1):
        assert found.shown(item_id) == Shown(found.name, strategy, place, score, variant, version)
    assert found.shown("what no list has") is None


def test_no_two_answers_share_a_name() -> None:
    made = [IDS.make([Listed("i1", 1.0)], "fuse", "b/1") for _ in range(1_000)]
    assert len({each[:16] for each in made}) == 1_000


def test_the_longest_list_is_within_the_bound() -> None:
    items = [Listed("é" * 256, -1e300)] + [Listed(f"{n}" * 99, 1.0) for n in range(999)]
    made = IDS.make(items, "similar", "v" * 600, start=65_535, variant="é" * 32)
    found = IDS.read(made)
    assert found is not None
    assert len(made) <= MAX_BYTES
    assert len(found.checksums) == MAX_ITEMS
    assert found.scores[0] == -np.inf
    with pytest.raises(ValueError, match="variant"):
        IDS.make([], "fuse", "b/1", variant="é" * 33)


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_changed_id_is_none(place: int, bit: int) -> None:
    made = IDS.make([Listed("i1", 1.0), Listed("i2", 0.5)], "fuse", "b/1", variant="a")
    sealed = bytearray(base64.urlsafe_b64decode(made + "=" * (-len(made) % 4)))
    sealed[place % len(sealed)] ^= 1 << bit
    assert IDS.read(base64.urlsafe_b64encode(sealed).decode().rstrip("=")) is None


@given(st.text() | st.binary(max_size=200).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_whatever_else_comes_is_none(text: str) -> None:
    assert IDS.read(text) is None


def test_another_key_reads_nothing() -> None:
    assert RecommendationIds(b"j" * 32).read(IDS.make([], "fuse", "b/1")) is None
