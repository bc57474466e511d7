"""SIGKILL while callers write; `python -m tests.robustness.kill_candidate` does it more often."""

from pathlib import Path

from tests.robustness.kill_candidate import kill_repeatedly

KILLS = 15


async def test_a_killed_process_keeps_what_it_acknowledged_and_nothing_by_half(
    tmp_path: Path,
) -> None:
    counts = await kill_repeatedly(KILLS, seed=0, directory=tmp_path)
    assert counts["acknowledged"] > KILLS
