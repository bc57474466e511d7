import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.build.drafts import write_catalog
from offline.dataset import DataError, Dataset, Item
from offline.dataset.prepare import k_core, prepare
from offline.dataset.schema import id_order

Row = tuple[str, str, int]


def table(rows: list[Row]) -> pl.DataFrame:
    schema = {"user": pl.String, "item": pl.String, "timestamp": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def catalog(ids: set[str]) -> dict[str, Item]:
    return {i: Item(i, f"Title {i}", f"Text {i}.", {"year": (float(len(i)),)}) for i in ids}


def dataset(rows: list[Row], min_core: int = 1) -> Dataset:
    return prepare("made-up", table(rows), catalog({row[1] for row in rows}), min_core)


def test_ids_are_numbered_by_value_before_words() -> None:
    made = dataset([("u10", "b", 1), ("9", "10", 2), ("10", "9", 3), ("u9", "a", 4)])
    assert made.user_ids == ("9", "10", "u10", "u9")
    assert made.item_ids == ("9", "10", "a", "b")
    assert id_order("07") != id_order("7")


def test_equal_timestamps_keep_the_order_of_the_file() -> None:
    made = dataset([("u", "c", 5), ("u", "a", 5), ("u", "b", 4), ("u", "d", 5)])
    assert [made.item_ids[i] for i in made.history(0)] == ["b", "c", "a", "d"]
    assert made.timestamps.tolist() == [4, 5, 5, 5]


def test_a_bundle_keeps_the_times_of_its_data(tmp_path: Path) -> None:
    made = dataset(
        [("u", "b", 1_700_000_009), ("u", "a", 1_700_000_001), ("v", "a", 1_600_000_000)]
    )
    write_catalog(made, tmp_path)
    times = np.load(tmp_path / "histories_times.npy").tolist()
    assert times == [1_700_000_001_000_000, 1_700_000_009_000_000, 1_600_000_000_000_000]


def test_a_bundle_of_positions_has_no_times(tmp_path: Path) -> None:
    write_catalog(dataset([("u", "b", 1), ("u", "a", 2)]), tmp_path)
    assert not (tmp_path / "histories_times.npy").exists()


def brute_core(rows: list[Row], k: int) -> list[Row]:
    while True:
        users = [row[0] for row in rows]
        items = [row[1] for row in rows]
        kept = [r for r in rows if users.count(r[0]) >= k and items.count(r[1]) >= k]
        if kept == rows:
            return kept
        rows = kept


rows_strategy = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdef"), st.integers(0, 9)), max_size=40
)


@given(rows_strategy, st.integers(0, 4))
def test_k_core_agrees_with_brute_force(rows: list[Row], k: int) -> None:
    assert k_core(table(rows), k).rows() == brute_core(rows, k)


@given(rows_strategy.filter(bool))
def test_every_interaction_is_kept_in_order_of_time(rows: list[Row]) -> None:
    made = dataset(rows)
    for user, user_id in enumerate(made.user_ids):
        mine = sorted((row for row in rows if row[0] == user_id), key=lambda row: row[2])
        assert [made.item_ids[i] for i in made.history(user)] == [row[1] for row in mine]


def test_the_split_leaves_the_last_two_out_and_never_tests_short_users() -> None:
    made = dataset([("u", item, i) for i, item in enumerate("abcde")] + [("v", "a", 1)] * 2)
    assert [h.tolist() for h in made.train()] == [[0, 1, 2], [0, 0]]
    validation, test = made.holdout("validation"), made.holdout("test")
    assert validation.users.tolist() == test.users.tolist() == [0]
    assert (validation.histories[0].tolist(), validation.targets.tolist()) == ([0, 1, 2], [3])
    assert (test.histories[0].tolist(), test.targets.tolist()) == ([0, 1, 2, 3], [4])


def test_the_last_three_of_long_histories_are_tested_each_with_what_precedes_it() -> None:
    long, enough, short = "abcdefg", "gfedc", "abcd"
    rows = [
        (user, item, time)
        for user, items in (("u", long), ("v", enough), ("w", short))
        for time, item in enumerate(items)
    ]
    made = dataset(rows).held_back(3)  # and one for validation: five are the fewest
    assert [h.tolist() for h in made.train()] == [[0, 1, 2], [6], [0, 1, 2, 3]]
    validation, test = made.holdout("validation"), made.holdout("test")
    assert validation.users.tolist() == [0, 1]
    assert [h.tolist() for h in validation.histories] == [[0, 1, 2], [6]]
    assert validation.targets.tolist() == [3, 5]
    assert test.users.tolist() == [0, 0, 0, 1, 1, 1]
    assert [h.tolist() for h in test.histories] == [
        [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5], [6, 5], [6, 5, 4], [6, 5, 4, 3],
    ]  # fmt: skip
    assert test.targets.tolist() == [4, 5, 6, 4, 3, 2]
    with pytest.raises(ValueError, match="at least one"):
        made.held_back(0)


def test_what_is_held_back_is_saved(tmp_path: Path) -> None:
    made = dataset([("u", "a", 1), ("u", "b", 2)]).held_back(10)
    made.save(tmp_path)
    assert Dataset.load(tmp_path).tested == 10
    header = json.loads((tmp_path / "dataset.json").read_text())
    del header["tested"]
    (tmp_path / "dataset.json").write_text(json.dumps(header))
    assert Dataset.load(tmp_path).tested == 1


def test_an_empty_core_says_what_to_do() -> None:
    with pytest.raises(DataError, match="smaller minimum"):
        dataset([("u", "a", 1), ("v", "b", 2)], min_core=2)


def test_saving_and_loading_gives_the_same_data(tmp_path: Path) -> None:
    made = dataset([("ü", "é", 1), ("ü", "b", 2), ("v", "b", 3)])
    made.save(tmp_path / "data")
    again = Dataset.load(tmp_path / "data")
    assert (again.name, again.items, again.user_ids) == (made.name, made.items, made.user_ids)
    for name in ("indptr", "item_index", "timestamps"):
        before, after = getattr(made, name), getattr(again, name)
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype


def test_offsets_that_do_not_fit_are_refused() -> None:
    empty = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="offsets"):
        Dataset("x", (), ("u",), np.zeros(1, np.int64), empty.astype(np.int32), empty)
    with pytest.raises(ValueError, match="disagree"):
        Dataset("x", (), ("u",), np.array([0, 1]), empty.astype(np.int32), empty)


SCRIPT = """
import hashlib, polars as pl
from offline.dataset.prepare import prepare
from offline.dataset import Item
rows = [(f"user{i * 7 % 23}", f"item{i * 5 % 19}", i % 11) for i in range(200)]
frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
made = prepare("x", frame, {i: Item(i, i, i, {}) for i in {r[1] for r in rows}}, 2)
print(hashlib.sha256(repr((made.user_ids, made.item_ids, made.item_index.tolist())).encode())
      .hexdigest())
"""


def test_the_numbering_does_not_depend_on_the_hash_seed() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(digests) == 1
