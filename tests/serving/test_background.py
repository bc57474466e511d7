"""Work beside the calls: started again whenever it ends, and gone once it is stopped."""

import asyncio

from structlog.testing import capture_logs

from serving.background import Background, Backoff

AT_ONCE = Backoff(first=0.0, limit=0.0)


async def test_work_that_dies_is_logged_and_started_again() -> None:
    starts: list[int] = []
    alive, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        starts.append(len(starts))
        if len(starts) == 1:
            raise ValueError("a defect")
        if len(starts) == 2:
            return  # it should not have
        alive.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    background = Background("gardener", work, AT_ONCE)
    with capture_logs() as logs:
        background.start()
        await asyncio.wait_for(alive.wait(), 30)
    assert [line["event"] for line in logs] == ["background task ended"] * 2
    assert {line["task"] for line in logs} == {"gardener"}
    assert isinstance(logs[0]["exc_info"], ValueError)
    assert logs[1]["exc_info"] is None
    await background.stop()
    assert cancelled.is_set()
    assert len(starts) == 3


async def test_what_never_started_can_be_stopped() -> None:
    async def nothing() -> None: ...

    await Background("nothing", nothing).stop()


def test_a_backoff_doubles_up_to_its_limit_and_never_less_than_half() -> None:
    backoff = Backoff(first=0.1, limit=1.0)
    for whole in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert whole / 2 <= backoff.next() <= whole
    backoff.failures = 10_000
    assert 0.5 <= backoff.next() <= 1.0
    backoff.reset()
    assert backoff.next() <= 0.1


def test_waits_differ() -> None:
    assert len({Backoff().next() for _ in range(10)}) > 1
