"""`python -m bench.telemetry`: the interval of its medians, and what it compares with."""

import os
import random
from pathlib import Path

from bench.telemetry.__main__ import median_of, metrics_port, processor_seconds
from bench.telemetry.blind import PLACES

ROUNDS = 40


def test_the_interval_holds_the_true_median_most_of_the_time() -> None:
    rng = random.Random(0)  # noqa: S311 - no secret depends on it
    held = 0
    for _ in range(1_000):
        # Mostly around 3, and now and then far off, as measurements on a busy machine are.
        values = [
            rng.gauss(3, 1) if rng.random() < 0.9 else rng.choice((-99, 99)) for _ in range(ROUNDS)
        ]
        _, low, high = median_of(values)
        held += low <= 3 <= high
    assert held > 930


def test_what_is_replaced_is_there() -> None:
    for owner, name, _ in PLACES:
        assert callable(getattr(owner, name))


def test_the_port_is_read_from_either_kind_of_log(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    log.write_text(
        '{"host": "127.0.0.1", "port": 41, "event": "listening"}\n'
        '{"host": "127.0.0.1", "port": 42, "event": "metrics", "level": "info"}\n'
    )
    assert metrics_port(log) == 42
    log.write_text("2026-01-01 [info     ] metrics                host=127.0.0.1 port=43\n")
    assert metrics_port(log) == 43


def test_processor_time_is_that_of_the_process() -> None:
    assert 0 < processor_seconds(os.getpid()) <= sum(os.times()[:2]) + 0.1
