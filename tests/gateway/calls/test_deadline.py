"""The caller's time, less a margin."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DeadlineExceeded
from gateway.deadline import Deadline
from serving.deadline import MAX_MARGIN_SECONDS


@pytest.fixture(autouse=True)
def frozen_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("remaining", "left"),
    [
        (None, 1.95),  # the default, 2 s
        (0.1, 0.09),
        (1.0, 0.95),
        (60.0, 29.95),  # the limit, 30 s
    ],
)
def test_what_services_get(remaining: float | None, left: float) -> None:
    deadline = Deadline.of_caller(remaining, default=2.0, limit=30.0)
    assert deadline.remaining() == pytest.approx(left)


def test_time_passes(frozen_clock: list[float]) -> None:
    deadline = Deadline.of_caller(1.0, default=2.0, limit=30.0)
    frozen_clock[0] += 0.5
    assert deadline.remaining() == pytest.approx(0.45)
    frozen_clock[0] += 0.45
    with pytest.raises(DeadlineExceeded):
        deadline.remaining()


def test_no_time_at_all() -> None:
    with pytest.raises(DeadlineExceeded):
        Deadline.of_caller(0.0, default=2.0, limit=30.0).remaining()


@given(st.floats(1e-6, 1e6), st.floats(0.001, 100), st.floats(0.001, 100))
def test_services_never_get_more_than_the_caller_has(
    remaining: float, default: float, limit: float
) -> None:
    left = Deadline.of_caller(remaining, default=default, limit=limit).at - time.monotonic()
    budget = min(remaining, limit)
    assert budget - MAX_MARGIN_SECONDS - 1e-9 <= left <= budget
