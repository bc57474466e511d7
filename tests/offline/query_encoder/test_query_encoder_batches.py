"""Windows and batches: every transition once, with the context that it had."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.query_encoder.batches import IGNORE, epoch_batches

# Item t + 1 of user u is 1 + 100 * u + t, so that each transition can be told apart.
lengths = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@settings(deadline=None)
@given(lengths, st.integers(1, 9), st.integers(10, 60), st.integers(0, 99))
def test_every_transition_is_a_target_once(
    sizes: list[int], max_history: int, batch_items: int, seed: int
) -> None:
    sequences = [np.arange(1, n + 1, dtype=np.int32) + 100 * u for u, n in enumerate(sizes)]
    targets: Counter[int] = Counter()
    for batch in epoch_batches(sequences, max_history, batch_items, np.random.default_rng(seed)):
        assert batch.history.shape == batch.targets.shape
        assert batch.history.shape[1] <= max_history
        assert batch.history.size <= max(batch_items, max_history)
        for history, following in zip(batch.history, batch.targets, strict=True):
            places = np.flatnonzero(following != IGNORE)
            assert len(places), "no window without a target"
            # An unbroken stretch of one sequence, each target the item after its history.
            stretch = history[: places[-1] + 1]
            assert (np.diff(stretch) == 1).all()
            assert (following[places] == history[places] + 1).all()
            assert not history[places[-1] + 1 :].any(), "nothing after the last target"
            targets.update(following[places].tolist())
    expected = [int(item) for sequence in sequences for item in sequence[1:]]
    assert targets == Counter(expected)


def test_long_sequences_have_full_context_but_at_their_beginning() -> None:
    sequence = [np.arange(1, 1001, dtype=np.int32)]
    (batch, *rest) = epoch_batches(sequence, 10, 100_000, np.random.default_rng(0))
    assert not rest
    assert sum(len(np.flatnonzero(row)) < 10 for row in batch.history) <= 1


def test_epochs_differ_and_seeds_decide() -> None:
    sequence = [np.arange(1, 101, dtype=np.int32)]

    def windows(seed: int) -> list[list[int]]:
        batches = epoch_batches(sequence, 10, 30, np.random.default_rng(seed))
        return [row.tolist() for batch in batches for row in batch.history]

    assert windows(1) == windows(1)
    assert windows(1) != windows(2)
