"""The comparison of a server that batches with one that does not, on real processes."""

import json
from pathlib import Path

import pytest

from bench.batching import measure_batching, mixed_requests
from bench.lib.ghz import GhzError, find_ghz
from bench.lib.stack import serving
from tests.generator.made_up import MadeUp
from tests.processes import REPOSITORY


@pytest.fixture
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to work in that looks like the repository, on a machine with ghz."""
    try:
        find_ghz()
    except GhzError as error:
        pytest.skip(str(error))
    (tmp_path / "protos").symlink_to(REPOSITORY / "protos")
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("_checkout")
def test_two_servers_are_compared_for_each_number_of_callers(made_up: MadeUp) -> None:
    figures = measure_batching(made_up.bundle.path, 0.1, threads=1, max_batch=4, rounds=2)
    for callers in (1, 32):
        assert figures[f"throughput_gain_{callers}_callers"] > 0
        for name in ("one_at_a_time", "batched"):
            key = f"{name}_{callers}_callers"
            assert figures[f"{key}_calls_per_second"] > 0
            assert 0 < figures[f"{key}_p50_ms"] <= figures[f"{key}_p99_ms"]
    assert len(figures) == 2 * (1 + 2 * 3)


def test_histories_have_every_length_and_are_the_same_each_time(made_up: MadeUp) -> None:
    requests = mixed_requests(made_up.bundle)
    lengths = {len(request["context"]["history_item_ids"]) for request in requests}
    assert lengths == set(range(1, made_up.bundle.manifest.generator.max_history + 1))
    assert requests == json.loads(json.dumps(mixed_requests(made_up.bundle)))


def test_a_server_that_does_not_start_is_told_apart_from_one_that_is_slow(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_DRAIN_SECONDS", "never")
    with (
        pytest.raises(ChildProcessError, match="the generator process ended with exit code 1"),
        serving("generator", made_up.bundle.path),
    ):
        pytest.fail("it started")
