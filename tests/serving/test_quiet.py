"""What is long and not urgent runs on a thread that calls are not kept waiting by."""

import os
import threading

import pytest

from serving.bundles.quiet import NICENESS, QuietThread


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_only_the_quiet_thread_is_nice() -> None:
    own, quiet = niceness(), QuietThread()
    assert await quiet.run(niceness) == min(own + NICENESS, 19)
    assert await quiet.run(niceness) == min(own + NICENESS, 19)
    assert niceness() == os.getpriority(os.PRIO_PROCESS, 0) == own
    quiet.close()


async def test_a_failure_comes_back_from_it() -> None:
    quiet = QuietThread()
    with pytest.raises(ValueError, match="broken"):
        await quiet.run(int, "broken")
    assert await quiet.run(int, "7") == 7
    quiet.close()
