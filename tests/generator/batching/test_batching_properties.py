"""Whatever comes: every job is answered once, with its own answer, and none waits forever."""

import asyncio
import itertools
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.generator.batching import MAX_PADDING, Limits, Served, choose
from tests.generator.batching.fake_model import FakeJob, FakeModel, batching, submit, until_waiting

jobs_of_any_kind = st.lists(
    st.builds(FakeJob, name=st.just(0), group=st.sampled_from("abc"), tokens=st.integers(1, 60)),
    min_size=1,
    max_size=30,
)


@given(jobs_of_any_kind, st.integers(1, 9))
def test_a_batch_is_the_oldest_job_and_what_is_nearest_to_it(
    jobs: list[FakeJob], size: int
) -> None:
    chosen = choose(jobs, size)
    assert chosen[0] == 0
    assert len(set(chosen)) == len(chosen) <= size
    assert {jobs[i].group for i in chosen} == {jobs[0].group}
    tokens = [jobs[i].tokens for i in chosen]
    assert max(tokens) * len(tokens) - sum(tokens) <= MAX_PADDING * max(tokens) * len(tokens)
    far = [(abs(jobs[i].tokens - jobs[0].tokens), i) for i in chosen]
    assert far == sorted(far)
    if len(chosen) < size:  # what fits without padding is never left out
        left = [jobs[i] for i in set(range(len(jobs))) - set(chosen)]
        assert (jobs[0].group, jobs[0].tokens) not in [(job.group, job.tokens) for job in left]


@given(
    st.lists(st.builds(FakeJob, name=st.just(0), prefixes=st.integers(0, 40)), min_size=1),
    st.integers(1, 9),
    st.integers(1, 3_000),
)
def test_a_batch_of_several_has_so_many_cells_at_most(
    jobs: list[FakeJob], size: int, cells: int
) -> None:
    chosen = choose(jobs, size, cells=cells)
    most = max(jobs[i].prefixes for i in chosen)
    assert chosen[0] == 0
    assert len(chosen) == 1 or len(chosen) * most**2 <= cells
    if len(chosen) < size:  # and what would have fitted is never left out
        for i in set(range(len(jobs))) - set(chosen):
            assert (len(chosen) + 1) * max(most, jobs[i].prefixes) ** 2 > cells


@given(jobs_of_any_kind, st.integers(1, 9), st.data())
def test_nothing_is_overtaken_forever(jobs: list[FakeJob], size: int, data: st.DataObject) -> None:
    """A job starts after as many batches as there were jobs before it, whatever comes meanwhile."""
    waiting, coming = list(enumerate(jobs)), 0
    latest = {name: name + 1 for name, _ in waiting}
    batches = 0
    while latest:
        chosen = choose([job for _, job in waiting], size)
        batches += 1
        for i in chosen:
            assert batches <= latest.pop(waiting[i][0], batches)
        waiting = [one for i, one in enumerate(waiting) if i not in chosen]
        for job in data.draw(st.lists(st.sampled_from(jobs), max_size=4)):
            coming -= 1  # a name that no one else has
            waiting.append((coming, job))


@dataclass(frozen=True)
class Wave:
    """What happens while one batch runs."""

    jobs: list[FakeJob]
    cancelled: int
    """How many of them leave again, the first ones first."""


waves = st.lists(
    st.builds(
        Wave,
        st.lists(
            st.builds(
                FakeJob,
                name=st.just(0),
                group=st.sampled_from("ab"),
                tokens=st.integers(1, 20),
                broken=st.sampled_from([False, False, False, True]),
            ),
            max_size=6,
        ),
        st.integers(0, 2),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(waves, st.integers(1, 4))
def test_every_job_is_answered_once_with_its_own(waves: list[Wave], size: int) -> None:
    asyncio.run(live_through(waves, size))


async def live_through(waves: list[Wave], size: int) -> None:
    model = FakeModel()
    names = itertools.count()
    kept: list[tuple[FakeJob, asyncio.Task[Served[str]]]] = []
    gone: list[FakeJob] = []
    busy = False
    async with batching(model, Limits(batch=size)) as queue:
        for wave in waves:
            if not busy:
                await asyncio.gather(*(task for _, task in kept), return_exceptions=True)
                first = FakeJob(next(names))
                kept += zip([first], submit(queue, first), strict=True)
                await model.until_started()
            jobs = [replace(job, name=next(names)) for job in wave.jobs]
            expected = queue.ready + len(jobs)
            tasks = submit(queue, *jobs)
            await until_waiting(queue, expected)
            for task in tasks[: wave.cancelled]:
                task.cancel()
                await asyncio.wait({task})
            gone += jobs[: wave.cancelled]
            kept += list(zip(jobs, tasks, strict=True))[wave.cancelled :]
            busy = queue.ready > 0
            model.let.release()
            if busy:
                await model.until_started()
        model.held = False
        model.let.release(1_000)
        await asyncio.gather(*(task for _, task in kept), return_exceptions=True)
    for job, task in kept:
        if job.broken:
            assert str(task.exception()) == f"cannot answer [{job.name}]"
        else:
            assert task.result().answer == f"answer {job.name}"
    for run in model.runs:
        assert len(run) <= size
        assert len({job.group for job in run}) == 1
    whole = [job for run in model.runs for job in run if not any(one.broken for one in run)]
    assert sorted(job.name for job in whole) == sorted(j.name for j, _ in kept if not j.broken)
    assert not {job.name for run in model.runs for job in run} & {job.name for job in gone}
