"""The comparison of a server that batches with one that does not, on real processes."""

from dataclasses import replace

import pytest

from bench.generator_load import (
    Comparison,
    Load,
    compare_batching,
    measure_load,
    mixed_requests,
)
from tests.generator.made_up import MadeUp


def test_it_compares_two_servers_for_each_number_of_callers(made_up: MadeUp) -> None:
    comparisons = compare_batching(
        made_up.bundle.path, threads=1, max_batch=4, callers=(1, 6), seconds=0.1, rounds=2
    )
    assert [comparison.callers for comparison in comparisons] == [1, 6]
    for comparison in comparisons:
        assert comparison.gain > 0
        for load in (comparison.one_at_a_time, comparison.batched):
            assert load.callers == comparison.callers
            assert load.calls >= 2 * load.callers
            assert 0 < load.p50_ms <= load.p99_ms
            assert 0 <= load.mean_queue_ms <= load.p99_ms
        assert comparison.one_at_a_time.mean_batch == 1
    assert comparisons[0].batched.mean_batch == 1  # a single caller never has company
    assert 1 < comparisons[1].batched.mean_batch <= 4


def test_the_figures_are_flat_and_named(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Load(32, 100, 50.0, 20.0, 40.0, 10.0, 30.0, 1.0)
    batched = replace(load, calls_per_second=100.0, mean_batch=6.0)
    compared = [Comparison(32, load, batched, gain=2.0)]
    monkeypatch.setattr("bench.generator_load.compare_batching", lambda *_, **__: compared)
    figures = measure_load(made_up.bundle.path, 1.0)
    assert figures["throughput_gain_32_callers"] == 2.0
    assert figures["32_callers_batched_calls_per_second"] == 100.0
    assert figures["32_callers_one_at_a_time_p99_queue_ms"] == 30.0
    assert len(figures) == 1 + 2 * 7
    row = capsys.readouterr().out.splitlines()[1]
    assert " ".join(row.split()) == "32, one at a time 50.0 20.0 40.0 10.0 30.0 1.0"


def test_histories_have_every_length_and_are_the_same_each_time(made_up: MadeUp) -> None:
    requests = mixed_requests(made_up.bundle)
    lengths = {len(request.context.history_item_ids) for request in requests}
    assert lengths == set(range(1, made_up.bundle.manifest.generator.max_history + 1))
    assert requests == mixed_requests(made_up.bundle)


def test_a_server_that_does_not_start_is_told_apart_from_one_that_is_slow(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_DRAIN_SECONDS", "never")
    with pytest.raises(RuntimeError, match="the generator process ended with exit code 1"):
        compare_batching(made_up.bundle.path, threads=1)
