"""Users are divided among variants by their shares, and as few as can be move."""

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.variants.assignment import assigned, subject

USERS = [subject(f"u{n}", ()) for n in range(1_000)]
NAMES = ("control", "next", "other", "last")
weights = st.lists(st.integers(0, 100), min_size=4, max_size=4).filter(any)
few = settings(max_examples=25)


def divided(experiment: str, shares: list[int]) -> list[str | None]:
    named = list(zip(NAMES, shares, strict=True))
    return [assigned(experiment, named, user) for user in USERS]


@few
@given(st.text(max_size=8), weights)
def test_every_variant_has_its_share_of_users(experiment: str, shares: list[int]) -> None:
    counts = Counter(divided(experiment, shares))
    for name, share in zip(NAMES, shares, strict=True):
        expected = share / sum(shares)
        deviation = math.sqrt(len(USERS) * expected * (1 - expected))
        assert abs(counts[name] - len(USERS) * expected) <= 6 * deviation, name


@few
@given(weights, weights)
def test_users_move_only_where_weight_has_grown(before: list[int], after: list[int]) -> None:
    old, new = dict(zip(NAMES, before, strict=True)), dict(zip(NAMES, after, strict=True))
    for one, other in zip(divided("e", before), divided("e", after), strict=True):
        assert one is not None
        assert other is not None
        if one != other:
            assert new[other] * old[one] > old[other] * new[one]


@few
@given(weights.filter(lambda shares: sum(map(bool, shares)) > 1), st.sampled_from(range(4)))
def test_where_a_variant_goes_its_users_alone_move(shares: list[int], gone: int) -> None:
    left = [0 if place == gone else share for place, share in enumerate(shares)]
    if not any(left):
        return
    for before, after in zip(divided("e", shares), divided("e", left), strict=True):
        assert after == before or before == NAMES[gone]


def test_another_experiment_shuffles_users_anew() -> None:
    one, other = divided("spring", [50, 50, 0, 0]), divided("summer", [50, 50, 0, 0])
    same = sum(a == b for a, b in zip(one, other, strict=True))
    assert abs(same - len(USERS) / 2) < 6 * math.sqrt(len(USERS) / 4)


def test_nobody_is_assigned_without_any_weight() -> None:
    assert set(divided("e", [0, 0, 0, 0])) == {None}
    assert assigned("e", [], USERS[0]) is None


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_whoever_differs_is_somebody_else(one: list[str], other: list[str]) -> None:
    assert (subject("", one) == subject("", other)) == (one == other)
    assert subject("", one) != subject("".join(one) or "u", other)


def test_a_users_history_does_not_move_it() -> None:
    assert subject("ann", ["i1"]) == subject("ann", ["i2"])


def test_the_draw_is_that_of_every_version() -> None:
    """What gateways of several versions must agree upon, and users keep when one is replaced."""
    shares = [("control", 50.0), ("next", 50.0)]
    drawn = [assigned("spring", shares, subject(user, ())) for user in ("ann", "bob", "cid", "dan")]
    assert drawn == ["next", "next", "next", "control"]
