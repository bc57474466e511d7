"""The circuit: opens on a failing target, probes it, and closes again, whatever the order."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.calls.circuit import Circuit, Limits, Permit, State, Verdict

LIMITS = Limits(failures=3, window=6, memory_seconds=10.0, rest_seconds=1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[Circuit, Clock]:
    clock = Clock()
    return Circuit(LIMITS, clock), clock


def call(circuit: Circuit, verdict: Verdict) -> bool:
    """Whether a call was let through."""
    permit = circuit.enter()
    if permit is not None:
        circuit.leave(permit, verdict)
    return permit is not None


def state(circuit: Circuit) -> State:
    """Mypy takes a property that was looked at for one that stays."""
    return circuit.state


def opened() -> tuple[Circuit, Clock]:
    circuit, clock = make()
    for _ in range(LIMITS.failures):
        assert call(circuit, Verdict.BAD)
    assert circuit.state is State.OPEN
    return circuit, clock


def test_it_opens_and_closes() -> None:
    circuit, clock = opened()
    assert not call(circuit, Verdict.GOOD)
    clock.now += 0.5
    assert circuit.enter() is None
    clock.now += 0.5
    assert state(circuit) is State.HALF_OPEN
    probe = circuit.enter()
    assert probe is not None
    assert circuit.enter() is None  # one at a time
    circuit.leave(probe, Verdict.GOOD)
    assert state(circuit) is State.CLOSED
    # What was before is forgotten.
    assert call(circuit, Verdict.BAD)
    assert circuit.state is State.CLOSED


def test_a_bad_probe_keeps_it_open_for_another_rest() -> None:
    circuit, clock = opened()
    for _ in range(5):
        clock.now += LIMITS.rest_seconds
        assert call(circuit, Verdict.BAD)
        assert circuit.state is State.OPEN


def test_a_probe_that_says_nothing_is_followed_by_another_at_once() -> None:
    circuit, clock = opened()
    clock.now += LIMITS.rest_seconds
    assert call(circuit, Verdict.NONE)
    assert call(circuit, Verdict.GOOD)
    assert circuit.state is State.CLOSED


def test_a_probe_that_never_comes_back_holds_nothing_up() -> None:
    circuit, clock = opened()
    clock.now += LIMITS.rest_seconds
    lost = circuit.enter()
    clock.now += LIMITS.rest_seconds
    assert call(circuit, Verdict.GOOD)
    assert lost is not None
    for _ in range(LIMITS.failures):
        circuit.leave(lost, Verdict.BAD)  # it comes back after all
    assert circuit.state is State.CLOSED


def test_few_failures_among_many_successes_do_not_open_it() -> None:
    circuit, _ = make()
    for _ in range(50):
        for verdict in (Verdict.GOOD, Verdict.GOOD, Verdict.BAD):
            assert call(circuit, verdict)


def test_old_failures_are_forgotten() -> None:
    circuit, clock = make()
    for _ in range(20):
        assert call(circuit, Verdict.BAD)
        clock.now += LIMITS.memory_seconds / 2 + 0.1
    assert circuit.state is State.CLOSED


def test_answers_to_calls_from_before_say_nothing() -> None:
    circuit, _ = make()
    early = [circuit.enter() for _ in range(10)]
    for permit in early[:3]:
        assert permit is not None
        circuit.leave(permit, Verdict.BAD)
    assert circuit.state is State.OPEN
    for permit in early[3:]:
        assert permit is not None
        circuit.leave(permit, Verdict.GOOD)
    assert circuit.state is State.OPEN


@pytest.mark.parametrize("verdict", [Verdict.GOOD, Verdict.NONE])
@given(st.integers(1, 100))
def test_what_does_not_fail_stays_closed(verdict: Verdict, calls: int) -> None:
    circuit, _ = make()
    assert all(call(circuit, verdict) for _ in range(calls))


class Machine(RuleBasedStateMachine):
    """Any calls, at any times, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit, self.clock = make()
        self.out: list[tuple[Permit, bool]] = []
        self.probes: list[float] = []

    @rule(seconds=st.floats(0.0, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def enters(self) -> None:
        state = self.circuit.state
        permit = self.circuit.enter()
        assert (permit is None) == (state is State.OPEN)
        if permit is not None:
            probe = state is State.HALF_OPEN
            if probe:
                self.probes.append(self.clock.now)
            self.out.append((permit, probe))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict))
    def leaves(self, data: st.DataObject, verdict: Verdict) -> None:
        permit, probe = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before = self.circuit.state
        self.circuit.leave(permit, verdict)
        after = self.circuit.state
        if before is State.CLOSED and after is not State.CLOSED:
            assert verdict is Verdict.BAD
            assert after is State.OPEN
        if before is not State.CLOSED and after is State.CLOSED:
            assert verdict is Verdict.GOOD
            assert probe
        if probe and (after is State.CLOSED or verdict is Verdict.NONE):
            self.probes.clear()

    @invariant()
    def probes_are_apart(self) -> None:
        """So much that a target which fails is left alone, save for one call in each rest."""
        for earlier, later in pairwise(self.probes):
            assert later >= earlier + LIMITS.rest_seconds

    def teardown(self) -> None:
        """However it went, a target that works is used again after one rest and one good probe."""
        self.clock.now += LIMITS.rest_seconds
        permit = self.circuit.enter()
        assert permit is not None
        self.circuit.leave(permit, Verdict.GOOD)
        self.clock.now += LIMITS.memory_seconds + LIMITS.rest_seconds
        assert self.circuit.enter() is not None


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
test_any_history = Machine.TestCase
