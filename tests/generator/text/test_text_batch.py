"""A batch of texts on a clock of the test's own."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from services.generator.text.batch import TextBatch
from services.generator.text.engine import TextEngine, TextJob
from services.generator.text.places import Event, Finished, Place, Stop
from services.generator.turns import ModelTurns
from tests.generator.made_up import EOS, MadeUp
from tests.generator.text.made_up_text import MAX_TOKENS, write_all


@dataclass
class Clock:
    now: float = 0.0
    step: float = 0.0
    """What each look at it takes."""

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@dataclass
class Caller:
    """Keeps what it is told."""

    ends: float = 1e9
    events: list[Event] = field(default_factory=list)

    def place(self, job: TextJob) -> Place:
        place = Place(self.events.append, 0.0, self.ends)
        place.put(job, 0.0)
        return place

    @property
    def tokens(self) -> list[int]:
        return [event for event in self.events if isinstance(event, int)]


@pytest.fixture
def job(writer: MadeUp) -> TextJob:
    return TextJob(writer.engine.snapshot, [5, 9, 13, EOS], MAX_TOKENS)


@pytest.fixture
def batch(engine: TextEngine) -> TextBatch:
    return TextBatch(engine, ModelTurns(), Clock())


def finish(batch: TextBatch) -> None:
    while batch.places:
        batch.step()


def test_says_each_token_and_the_end(batch: TextBatch, engine: TextEngine, job: TextJob) -> None:
    (expected,) = write_all(engine, [job])
    caller = Caller()
    batch.step([caller.place(job)])
    finish(batch)
    end = caller.events[-1]
    assert caller.tokens == [token for token in expected if token != EOS]
    assert isinstance(end, Finished)
    assert end.stop is (Stop.END if EOS in expected else Stop.MAX_TOKENS)
    assert end.tokens == len(caller.tokens)


def test_a_deadline_that_a_step_would_miss_ends_a_text(engine: TextEngine, job: TextJob) -> None:
    clock = Clock()
    batch = TextBatch(engine, ModelTurns(), clock)
    early, late = Caller(ends=2.5), Caller()
    clock.step = 0.25  # a step looks twice: it takes a quarter of a second, and what is around it
    batch.step([early.place(job), late.place(job)])
    finish(batch)
    end = early.events[-1]
    assert isinstance(end, Finished)
    assert end.stop is Stop.DEADLINE
    assert early.tokens == late.tokens[: end.tokens]
    assert 0 < end.tokens < len(late.tokens)


def test_one_who_left_is_told_no_more(batch: TextBatch, job: TextJob) -> None:
    leaving, staying = Caller(), Caller()
    place = leaving.place(job)
    batch.step([place, staying.place(job)])
    place.left = True
    batch.step()
    assert len(leaving.events) == 1
    assert len(batch.places) == 1
    finish(batch)
    assert isinstance(staying.events[-1], Finished)


def test_a_prompt_that_fails_is_alone_to_blame(
    batch: TextBatch, engine: TextEngine, job: TextJob
) -> None:
    bad, good = Caller(), Caller()
    broken = TextJob(job.snapshot, [10**6], MAX_TOKENS)  # no such token
    batch.step([bad.place(broken), good.place(job)])
    finish(batch)
    assert len(bad.events) == 1
    assert isinstance(bad.events[0], Exception)
    (expected,) = write_all(engine, [job])
    assert good.tokens == [token for token in expected if token != EOS]


def test_a_step_that_fails_ends_its_texts_only(
    batch: TextBatch, engine: TextEngine, job: TextJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Caller(), Caller()

    def fail() -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "step", fail)
        batch.step([first.place(job)])
    assert [type(event) for event in first.events] == [RuntimeError]
    batch.step([second.place(job)])
    finish(batch)
    assert isinstance(second.events[-1], Finished)
