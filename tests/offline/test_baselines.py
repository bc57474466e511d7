from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.bundle import Bundle, write_bundle
from offline import baselines
from offline.build.drafts import write_catalog
from offline.dataset import Dataset, Item
from offline.dataset.windows import windowed_counts
from offline.evaluate.parts import baseline_rows
from offline.evaluate.protocol import questions
from tests.tiny_bundle import manifest


def dataset(sequences: list[list[int]], items: int) -> Dataset:
    return Dataset(
        name="made-up",
        items=tuple(Item(str(i), "", "", {}) for i in range(items)),
        user_ids=tuple(str(u) for u in range(len(sequences))),
        indptr=np.cumsum([0, *map(len, sequences)]).astype(np.int64),
        item_index=np.array([i for s in sequences for i in s], dtype=np.int32),
        timestamps=np.zeros(sum(map(len, sequences)), dtype=np.int64),
    )


ITEMS = 6
sequences_strategy = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=14), min_size=1, max_size=6
)


def brute_counts(
    sequences: list[list[int]], items: int, window: int, decay: float
) -> NDArray[np.float64]:
    counts = np.zeros((items, items))
    for sequence in sequences:
        for i, before in enumerate(sequence):
            for j in range(i + 1, min(i + window, len(sequence) - 1) + 1):
                counts[before, sequence[j]] += decay ** (j - i - 1)
    return counts


@given(sequences_strategy, st.integers(1, 4))
def test_windowed_counts_agree_with_brute_force(sequences: list[list[int]], window: int) -> None:
    arrays = [np.array(sequence, dtype=np.int32) for sequence in sequences]
    counts = windowed_counts(arrays, ITEMS, window, 0.5)
    np.testing.assert_allclose(counts.toarray(), brute_counts(sequences, ITEMS, window, 0.5))
    for row in range(ITEMS):
        assert np.all(np.diff(counts.indices[counts.indptr[row] : counts.indptr[row + 1]]) > 0)


def test_windowed_counts_by_hand() -> None:
    counts = windowed_counts([np.array([0, 1, 2, 1])], 3, window=2, decay=0.5)
    assert counts.toarray().tolist() == [[0, 1, 0.5], [0, 0.5, 1], [0, 1, 0]]


def test_popularity_counts_training_interactions() -> None:
    data = dataset([[0, 1, 1, 2, 3], [1, 0, 0], [3, 3]], items=5)
    assert data.popularity().tolist() == [1, 3, 0, 2, 0]


@given(sequences_strategy)
def test_the_table_and_its_scores_agree_with_brute_force(sequences: list[list[int]]) -> None:
    data = dataset(sequences, ITEMS)
    train = [s[:-2] if len(s) > 2 else s for s in sequences]
    counts = brute_counts(train, ITEMS, baselines.WINDOW, baselines.DECAY)
    weights = counts / (counts.sum(axis=1, keepdims=True) + baselines.SHRINKAGE)
    table = baselines.transition_table(data)
    dtypes = [array.dtype.name for array in (table.indptr, table.items, table.weights)]
    assert dtypes == ["int64", "int32", "float32"]
    histories = [data.history(user)[:-1] for user in range(len(sequences))]
    scores = baselines.transition_scores(table, histories)
    for history, row in zip(histories, scores, strict=True):
        recent = history[::-1][: baselines.RECENT]
        expected = sum(
            (baselines.RECENT_DECAY**back * weights[item] for back, item in enumerate(recent)),
            start=np.zeros(ITEMS),
        )
        np.testing.assert_allclose(row, expected / max(expected.sum(), 1e-300), rtol=1e-5)


def test_validation_and_test_items_do_not_count() -> None:
    one, other = dataset([[0, 1, 2, 3, 4]], 6), dataset([[0, 1, 2, 5, 0]], 6)
    assert (one.popularity() == other.popularity()).all()
    left, right = baselines.transition_table(one), baselines.transition_table(other)
    assert (left.items == right.items).all()
    assert (left.weights == right.weights).all()


def test_rows_by_hand(tmp_path: Path) -> None:
    # Training: item 0 three times, item 1 twice, 2 once; every test target is item 1 or 3.
    data = dataset([[0, 1, 2, 3], [0, 1, 2, 1], [0, 2, 4, 3]], items=5)
    table = baselines.transition_table(data)
    described = manifest().model_copy(update={"items": 5, "users": 3})
    with write_bundle(tmp_path, described) as directory:
        write_catalog(data, directory)
        for name in ("indptr", "items", "weights"):
            np.save(directory / f"transitions_{name}.npy", getattr(table, name))
    bundle = Bundle.open(tmp_path / "tiny" / "current")
    found = baseline_rows(bundle, questions(bundle, "test"), lambda _: None)
    rows = {(r.name, r.ranking): r for r in found}
    assert set(rows) == {
        (name, ranking)
        for name in ("popularity", "transitions")
        for ranking in ("filtered", "unfiltered")
    }
    # Popularity ranks 0, 1, 2, then 3 and 4 level. Unfiltered the targets stand at 4, 2 and 4.
    unfiltered = rows["popularity", "unfiltered"]
    assert unfiltered.users == 3
    assert unfiltered.metrics["mrr"] == pytest.approx((1 / 4 + 1 / 2 + 1 / 4) / 3)
    # Filtered: user 0 has 0, 1, 2 seen, user 1 too (and the target takes part), user 2 0, 2, 4.
    assert rows["popularity", "filtered"].metrics["mrr"] == pytest.approx((1 + 1 + 1 / 2) / 3)
