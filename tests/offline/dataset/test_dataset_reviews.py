"""What users wrote, read beside the interactions."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.dataset import DataError, Dataset, LogsConfig, read_logs
from offline.dataset.reviews import LONGEST, Reviews, clean

COLUMNS = ("user_id", "item_id", "timestamp", "rating", "review", "summary")
ROWS = [
    dict(zip(COLUMNS, row, strict=True))
    for row in (
        ("2", "b", 20, 4.0, "Too loud.", "loud"),
        ("1", "a", 10, 5.0, "A &amp; B", None),
        ("1", "b", 5, 1.0, None, "no"),
    )
]


def write(path: Path) -> Path:
    frame = pl.DataFrame(ROWS)
    match path.suffixes:
        case [".jsonl", ".gz"]:
            lines = "".join(json.dumps(row) + "\n" for row in ROWS)
            path.write_bytes(gzip.compress(lines.encode()))
        case [".parquet"]:
            frame.write_parquet(path)
        case _:
            frame.write_csv(path)
    return path


def read(path: Path, items: Path | None = None) -> Dataset:
    config = LogsConfig(path, items, min_core=1, review_column="review", summary_column="summary")
    return read_logs(config)[0]


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.jsonl.gz"])
def test_texts_stand_beside_their_interactions(name: str, tmp_path: Path) -> None:
    data = read(write(tmp_path / name))
    assert [data.item_ids[i] for i in data.item_index] == ["b", "a", "b"]
    assert data.reviews == Reviews(("", "A & B", "Too loud."), ("no", "", "loud"))


def test_texts_survive_saving(tmp_path: Path) -> None:
    data = read(write(tmp_path / "log.csv"))
    data.save(tmp_path / "out")
    assert Reviews.load(tmp_path / "out") == data.reviews


def test_data_without_texts_save_none(tmp_path: Path) -> None:
    data, _ = read_logs(LogsConfig(write(tmp_path / "log.csv"), None, min_core=1))
    data.save(tmp_path / "out")
    assert data.reviews is None
    assert Reviews.load(tmp_path / "out") is None


def test_damaged_json_lines_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"user_id": "1",\n')
    with pytest.raises(DataError, match="not JSON lines"):
        read(tmp_path / "log.jsonl")


def test_a_missing_column_of_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"user_id": "1", "item_id": "a", "timestamp": 1}\n')
    with pytest.raises(DataError, match="no column 'review'"):
        read(tmp_path / "log.jsonl")


@given(st.text())
def test_clean_texts_are_one_bounded_line(text: str) -> None:
    cleaned = clean(text * 50)
    assert len(cleaned) <= LONGEST
    assert cleaned == " ".join(cleaned.split())


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("as expected.I like it", "as expected. I like it"),
        ("a &quot;lead&quot;<br />\nend", 'a "lead" end'),
        ("no U.S.A. change, 3.5 stars", "no U.S.A. change, 3.5 stars"),
        ("x" * (LONGEST + 5), "x" * LONGEST),
    ],
)
def test_what_was_lost_in_writing_is_set_right(written: str, cleaned: str) -> None:
    assert clean(written) == cleaned
