"""A canary that does worse than the control is withdrawn; one that does not stays."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.variants.canary import Canary
from gateway.variants.plan import Limits
from gateway.variants.window import BOUNDS, SLICES, Window

LIMITS = Limits(max_bad_share=0.02, max_latency_ratio=1.5, min_calls=100, window_seconds=60.0)
calls = st.lists(st.tuples(st.floats(0, 5), st.floats(0.0001, 100), st.booleans()), max_size=60)


@given(calls)
def test_a_window_has_what_was_in_its_time(several: list[tuple[float, float, bool]]) -> None:
    window, now, ended = Window(12.0), 0.0, []
    for wait, seconds, bad in several:
        now += wait
        window.add(now, seconds, bad=bad)
        ended.append((now, seconds, bad))
        surely = [call for call in ended if now - call[0] < 12.0 * (1 - 1 / SLICES) - 1e-6]
        perhaps = [call for call in ended if now - call[0] < 12.0]
        assert len(surely) <= window.calls <= len(perhaps)
        counted = ended[len(ended) - window.calls :]
        assert window.bad_share * window.calls == pytest.approx(sum(bad for *_, bad in counted))
        times = sorted(seconds for _, seconds, _ in counted)
        exact = times[-(-95 * len(times) // 100) - 1]
        within = min(max(exact, BOUNDS[0]), BOUNDS[-1])
        assert within <= window.slowest * (1 + 1e-9)
        assert window.slowest <= within * 1.1 * (1 + 1e-9)
    window.forget(now + 12.01)
    assert (window.calls, window.bad_share, window.slowest) == (0, 0.0, 0.0)


def test_a_window_is_bounded_whatever_comes() -> None:
    window = Window(60.0)
    for n in range(20_000):
        window.add(n / 100, 0.01, bad=False)
    assert len(window._slices) <= SLICES + 1


def calls_until_withdrawn(
    canary: Callable[[random.Random], tuple[float, bool]],
    control: Callable[[random.Random], tuple[float, bool]],
    limits: Limits = LIMITS,
    most: int = 1_000,
) -> int | None:
    """A canary of a tenth of 100 calls a second, over as many calls of its own as are asked for."""
    rng, judged = random.Random(1), Canary(limits)  # noqa: S311 - nothing is secret
    for n in range(most):
        for other in range(9):
            seconds, bad = control(rng)
            judged.add(n / 10 + other / 100, seconds, bad=bad, control=True)
        seconds, bad = canary(rng)
        judged.add(n / 10 + 0.09, seconds, bad=bad, control=False)
        if judged.passed():
            return n + 1
    return None


def like(bad: float, seconds: float = 0.02) -> Callable[[random.Random], tuple[float, bool]]:
    """Calls of which some are bad, with times around a mean."""
    return lambda rng: (seconds * rng.lognormvariate(0, 0.5), rng.random() < bad)


def test_five_percent_of_errors_withdraw_a_canary() -> None:
    gone = calls_until_withdrawn(like(bad=0.06), like(bad=0.01), most=600)
    assert gone is not None, "sixty seconds have 600 calls of the canary"


def test_a_canary_that_always_fails_goes_at_once() -> None:
    assert calls_until_withdrawn(like(bad=1.0), like(bad=0.01)) == LIMITS.min_calls


def test_a_slow_canary_is_withdrawn() -> None:
    gone = calls_until_withdrawn(like(0.0, seconds=0.06), like(0.0, seconds=0.02), most=600)
    assert gone is not None


def test_one_that_is_like_the_control_stays() -> None:
    assert calls_until_withdrawn(like(0.01), like(0.01), most=20_000) is None


def test_trouble_of_both_withdraws_nothing() -> None:
    assert calls_until_withdrawn(like(0.5), like(0.5), most=5_000) is None


def test_without_a_control_nothing_is_withdrawn() -> None:
    canary = Canary(LIMITS)
    for n in range(500):
        canary.add(n / 10, 0.02, bad=True, control=False)
    assert canary.passed() is None


def test_the_figures_say_which_limit_was_passed() -> None:
    canary = Canary(LIMITS)
    for n in range(300):
        canary.add(n / 10, 0.02, bad=False, control=True)
        canary.add(n / 10, 0.02, bad=n % 2 == 0, control=False)
    assert canary.passed() == {
        "bad_share": 0.5, "control_bad_share": 0.0, "calls": 300, "control_calls": 300,
    }  # fmt: skip


def test_old_calls_of_the_control_are_forgotten() -> None:
    canary = Canary(LIMITS)
    for n in range(300):
        canary.add(n / 10, 0.02, bad=False, control=True)
    for n in range(300):
        canary.add(100 + n / 10, 0.02, bad=True, control=False)
    assert canary.passed() is None
