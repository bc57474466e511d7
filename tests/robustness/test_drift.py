"""Whether p99 grew over a soak, whatever single moments were like."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.robustness.operate.drift import Drift
from tests.robustness.operate.tally import Tally

WINDOWS = 30


@given(st.floats(1, 1e3), st.floats(-0.5, 0.5))
def test_a_straight_line_is_its_own_drift(middle: float, share: float) -> None:
    line = middle * (1 + share * (np.arange(WINDOWS) - (WINDOWS - 1) / 2) / WINDOWS)
    drift = Drift.of(line.tolist())
    assert [drift.share, drift.low, drift.high] == pytest.approx([share] * 3, abs=1e-6)


@given(st.sets(st.integers(0, WINDOWS - 1), max_size=5), st.floats(10, 1e4))
def test_a_few_bad_windows_are_no_drift(bad: set[int], ms: float) -> None:
    p99 = [ms if n in bad else 10.0 for n in range(WINDOWS)]
    assert Drift.of(p99).share == pytest.approx(0)


@pytest.mark.parametrize("p99", [[], [1.0], [1.0, 2.0]])
def test_too_few_windows_show_none(p99: list[float]) -> None:
    assert Drift.of(p99) == Drift()


def test_each_part_has_its_own_calls() -> None:
    tally = Tally()
    for at, ms in ((0.5, 10.0), (1.5, 20.0), (1.9, 30.0), (3.5, 5.0)):
        tally.ended.append(100 + at)
        tally.ms.append(ms)
    found = tally.p99(began=100, seconds=4, parts=4)
    assert found == pytest.approx([10.0, np.percentile([20, 30], 99), 5.0])
