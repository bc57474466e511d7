import datetime as dt
import gzip
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.dataset import DataError, DataWarning, LogsConfig, load_logs, read_logs
from offline.dataset.table import read_table
from offline.dataset.timestamps import EARLIEST, LATEST, PER_SECOND, microseconds

INTERACTIONS = "user_id,item_id,timestamp\n1,a,10\n2,b,20\n1,b,5\n2,a,30\n"
ITEMS = "item_id,text\na,First\nb,Second\n"


def logs(
    tmp_path: Path,
    interactions: str | bytes = INTERACTIONS,
    items: str | bytes = ITEMS,
    **options: Any,
) -> LogsConfig:
    for name, content in (("log.csv", interactions), ("items.csv", items)):
        raw = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(raw)
    defaults = LogsConfig(tmp_path / "log.csv", tmp_path / "items.csv", min_core=1)
    return replace(defaults, **options)


def refusal(config: LogsConfig) -> str:
    with pytest.raises(DataError) as caught:
        read_logs(config)
    return str(caught.value)


def sequences(config: LogsConfig) -> dict[str, list[str]]:
    data, _ = read_logs(config)
    return {
        user: [data.item_ids[i] for i in data.history(index)]
        for index, user in enumerate(data.user_ids)
    }


# -- what can be read ------------------------------------------------------------------------------


def test_the_plain_case(tmp_path: Path) -> None:
    data, report = read_logs(logs(tmp_path, name="mine"))
    assert (data.name, data.user_ids, data.item_ids) == ("mine", ("1", "2"), ("a", "b"))
    assert [data.history(user).tolist() for user in (0, 1)] == [[1, 0], [1, 0]]
    assert (report.rows, report.users, report.items, report.interactions) == (4, 2, 2, 4)
    assert report.notices == ()


@pytest.mark.parametrize(
    "written",
    [
        INTERACTIONS.encode("utf-8-sig"),
        INTERACTIONS.replace("\n", "\r\n").encode(),
        INTERACTIONS.replace(",", " , ").encode(),
        INTERACTIONS.replace("\n", ",more\n").encode(),
        gzip.compress(INTERACTIONS.encode()),
        (INTERACTIONS + "\n\n").encode(),
        INTERACTIONS.rstrip("\n").encode(),
        INTERACTIONS.replace("1,", '"1",').encode(),
    ],
    ids=["bom", "crlf", "spaces", "columns", "gzip", "blank lines", "no last newline", "quotes"],
)
def test_harmless_differences_make_none(written: bytes, tmp_path: Path) -> None:
    expected = sequences(logs(tmp_path))
    assert sequences(logs(tmp_path, written)) == expected == {"1": ["b", "a"], "2": ["b", "a"]}


@pytest.mark.parametrize("separator", [";", "\t", "|", "\\t"])
def test_another_separator_is_read_named_or_not(separator: str, tmp_path: Path) -> None:
    real = separator.replace("\\t", "\t")
    config = logs(tmp_path, INTERACTIONS.replace(",", real), ITEMS.replace(",", real))
    assert len(sequences(replace(config, separator=separator))) == 2
    assert len(sequences(config)) == 2


def test_a_separator_is_told_beside_commas_and_line_breaks_in_quoted_cells(tmp_path: Path) -> None:
    items = 'item_id;text\na;"One, two; ""three"",\nfour, five | six"\nb;"7,5 stars, 8"\n'
    dataset, _ = read_logs(logs(tmp_path, INTERACTIONS.replace(",", ";"), items))
    assert [item.text for item in dataset.items] == [
        'One, two; "three", four, five | six',
        "7,5 stars, 8",
    ]


@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis", "utf-16", "utf-16-le"])
def test_another_encoding_is_read_when_it_is_named(encoding: str, tmp_path: Path) -> None:
    name = "猫と電車" if encoding == "shift_jis" else "Café – naïve"
    items = ITEMS + f"c,{name}\n"
    log = (INTERACTIONS + "1,c,40\n").encode(encoding)
    config = logs(tmp_path, log, items.encode(encoding), encoding=encoding)
    dataset, _ = read_logs(config)
    assert dataset.items[2].text == name


@pytest.mark.parametrize(
    ("encoding", "text", "named"),
    [
        ("cp1252", "Crème brûlée – “naïve” Müller", "Windows-1252, so give the encoding 'cp1252'"),
        (
            "shift_jis",
            "東京の電車と猫、日本語の説明文です",
            "Shift-JIS, so give the encoding 'cp932'",
        ),
        ("utf-16", "Crème brûlée", "UTF-16, so give the encoding 'utf_16'"),
    ],
)
def test_the_likely_encoding_is_named(encoding: str, text: str, named: str, tmp_path: Path) -> None:
    items = "item_id,text\n" + "".join(f"{i},{text}\n" for i in range(5))
    assert named in refusal(logs(tmp_path, items=items.encode(encoding)))


def test_an_encoding_that_nobody_knows(tmp_path: Path) -> None:
    assert "'cp99' is no encoding" in refusal(logs(tmp_path, encoding="cp99"))


SECONDS = 1_700_000_000


@pytest.mark.parametrize(
    ("factor", "unit"), [(10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")]
)
def test_timestamps_in_mixed_units_are_refused(factor: int, unit: str, tmp_path: Path) -> None:
    rows = [f"1,a,{SECONDS}", f"1,b,{SECONDS + 1}", f"2,a,{(SECONDS + 2) * factor}"]
    message = refusal(logs(tmp_path, "\n".join(["user_id,item_id,timestamp", *rows])))
    assert "row 4, column 'timestamp'" in message
    assert f"is likely in {unit}, and that of row 2, {SECONDS}, in seconds" in message


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_timestamps_of_one_unit_are_kept_as_they_are(factor: int, tmp_path: Path) -> None:
    rows = [f"1,a,{(SECONDS + 2) * factor}", f"1,b,{SECONDS * factor}", "1,a,0"]
    config = logs(tmp_path, "\n".join(["user_id,item_id,timestamp", *rows]))
    dataset, report = read_logs(config)
    assert [dataset.item_ids[i] for i in dataset.history(0)] == ["a", "b", "a"]
    assert report.notices == ()


@given(
    times=st.lists(st.integers(EARLIEST, LATEST - 1), min_size=1),
    unit=st.sampled_from(["seconds", "milliseconds", "microseconds", "nanoseconds"]),
    before_1970=st.lists(st.integers(-(2**40), -1)),
)
def test_times_of_every_unit_become_microseconds(
    times: list[int], unit: str, before_1970: list[int]
) -> None:
    factor = int(PER_SECOND[unit])
    stamps = np.array([*(t * factor for t in times), *before_1970], np.int64)
    expected = [*(t * 10**6 for t in times), *(0 for _ in before_1970)]
    found = microseconds(stamps)
    assert found is not None
    assert found.tolist() == expected


@given(st.lists(st.integers(-(2**62), EARLIEST - 1)))
def test_positions_are_no_times(positions: list[int]) -> None:
    assert microseconds(np.array(positions, np.int64)) is None


@pytest.mark.parametrize("late", ["2099-01-01", "2099-01-01T00:00:00Z", str(4_070_908_800_000)])
def test_times_in_the_future_are_told(late: str, tmp_path: Path) -> None:
    early = "2020-01-01" if "-" in late else str(1_577_836_800_000)
    rows = [f"1,a,{early}", f"1,b,{late}"]
    config = logs(tmp_path, "\n".join(["user_id,item_id,timestamp", *rows]))
    dataset, report = read_logs(config)
    assert len(dataset.history(0)) == 2
    assert report.notices == (f"1 of 2 interactions are in the future; the first is row 3: {late}",)


def test_a_tsv_file_needs_no_separator(tmp_path: Path) -> None:
    (tmp_path / "log.tsv.gz").write_bytes(gzip.compress(INTERACTIONS.replace(",", "\t").encode()))
    config = replace(logs(tmp_path), interactions=tmp_path / "log.tsv.gz")
    assert len(sequences(config)) == 2


def test_columns_go_by_the_names_given(tmp_path: Path) -> None:
    config = logs(
        tmp_path,
        "when,what,who\n3,a,u\n2,b,u\n1,a,u\n",
        "sku,name\na,First\nb,Second\n",
        user_column="who",
        item_column="what",
        timestamp_column="when",
        item_id_column="sku",
        text_columns=("name",),
    )
    assert sequences(config) == {"u": ["a", "b", "a"]}


def test_text_and_attributes(tmp_path: Path) -> None:
    items = (
        'item_id,title,about,genre,year,mixed\na,"A, first",  of  all.,Drama|War,1999,1\nb,,B,,,x\n'
    )
    config = logs(
        tmp_path,
        items=items,
        text_columns=("title", "about"),
        attribute_columns=("genre", "year", "mixed"),
    )
    first, second = read_logs(config)[0].items
    assert (first.title, first.text) == ("A, first", "A, first. of all.")
    assert first.attributes == {"genre": ("Drama", "War"), "year": (1999.0,), "mixed": ("1",)}
    assert (second.title, second.text) == ("B", "B")
    assert second.attributes == {"genre": (), "year": (), "mixed": ("x",)}


def test_parquet_with_types(tmp_path: Path) -> None:
    config = logs(tmp_path, attribute_columns=("tags", "price"))
    day = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    pl.DataFrame(
        {
            "user_id": [7, 7, 8],
            "item_id": [1.0, 2.0, 1.0],  # what pandas makes of whole numbers with gaps
            "timestamp": [day + dt.timedelta(seconds=s) for s in (9, 3, 1)],
        }
    ).write_parquet(config.interactions)
    assert config.items is not None
    pl.DataFrame(
        {
            "item_id": [1, 2],
            "text": ["One", "Two"],
            "tags": [["x", "y"], []],
            "price": [1.5, None],
        },
        schema_overrides={"tags": pl.List(pl.String)},
    ).write_parquet(config.items)
    assert sequences(config) == {"7": ["2", "1"], "8": ["1"]}
    assert read_logs(config)[0].items[0].attributes == {"tags": ("x", "y"), "price": (1.5,)}


@pytest.mark.parametrize(
    "cells",
    [
        ("10", "5"),
        ("10.25", "10.125"),
        ("1e3", "7"),
        ("-1", "-2"),
        ("2024-05-01", "2024-04-30"),
        ("2024-05-01T10:00:00Z", "2024-05-01T11:59:59+02:00"),
        ("2024-05-01 10:00:00.5", "2024-05-01 10:00:00.25"),
        ("2024-05-01 10:01", "2024-05-01 10:00:59"),
    ],
)
def test_timestamps_are_numbers_or_dates(cells: tuple[str, str], tmp_path: Path) -> None:
    later, earlier = cells
    rows = f"user_id,item_id,timestamp\nu,a,{later}\nu,b,{earlier}\n"
    assert sequences(logs(tmp_path, rows)) == {"u": ["b", "a"]}


def test_large_whole_timestamps_lose_nothing(tmp_path: Path) -> None:
    rows = "user_id,item_id,timestamp\nu,a,1700000000000000001\nu,b,1700000000000000000\n"
    assert sequences(logs(tmp_path, rows)) == {"u": ["b", "a"]}


# -- what is set right, and counted ----------------------------------------------------------------


def test_duplicates_count_once_and_repeats_stay(tmp_path: Path) -> None:
    data, report = read_logs(logs(tmp_path, INTERACTIONS + "1,a,10\n1,a,11\n"))
    assert [data.item_ids[i] for i in data.history(0)] == ["b", "a", "a"]
    assert report.notices == ("1 interaction given twice; the first is row 6: '1', 'a'",)


def test_unknown_items_are_left_out(tmp_path: Path) -> None:
    data, report = read_logs(logs(tmp_path, INTERACTIONS + "1,c,1\n2,c,1\n"))
    assert data.item_ids == ("a", "b")
    (notice,) = report.notices
    assert "2 interactions left out, of items that" in notice
    assert "row 6: '1', 'c'" in notice


def test_only_unknown_items_is_an_error(tmp_path: Path) -> None:
    message = refusal(logs(tmp_path, items="item_id,text\n1,First\n"))
    assert "right columns" in message
    assert "'a' is one, '1' the other" in message


def test_an_item_without_text_goes_by_its_id(tmp_path: Path) -> None:
    data, report = read_logs(logs(tmp_path, items="item_id,text\na,First\nb,  \n"))
    assert (data.items[1].title, data.items[1].text) == ("b", "b")
    assert "1 item of" in report.notices[0]
    assert "without text" in report.notices[0]


def test_an_item_listed_twice(tmp_path: Path) -> None:
    _, report = read_logs(logs(tmp_path, items=ITEMS + "a,First\n"))
    assert "1 item of" in report.notices[0]
    message = refusal(logs(tmp_path, items=ITEMS + "a,Third\n"))
    assert "items.csv, row 4, column 'item_id': 'a' stands in an earlier row" in message


def test_low_ratings_can_be_left_out(tmp_path: Path) -> None:
    rows = "user_id,item_id,timestamp,stars\n1,a,1,5\n1,b,2,1.5\n1,a,3,4\n"
    config = logs(tmp_path, rows, rating_column="stars", min_rating=4)
    assert sequences(config) == {"1": ["a", "a"]}
    assert "1 interaction rated below 4" in read_logs(config)[1].notices[0]
    broken = logs(tmp_path, rows.replace("1.5", "good"), rating_column="stars")
    assert "row 3, column 'stars': 'good' is not a number" in refusal(broken)
    with pytest.raises(DataError, match="rating column"):
        logs(tmp_path, min_rating=4)


def test_what_the_core_leaves_out_is_counted(tmp_path: Path) -> None:
    _, report = read_logs(logs(tmp_path, INTERACTIONS + "3,a,1\n", min_core=2))
    assert report.notices == ("1 interaction left out, of users or items with fewer than 2",)
    assert "smaller minimum" in refusal(logs(tmp_path, min_core=9))


def test_load_logs_warns_about_each_notice(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="given twice"):
        load_logs(logs(tmp_path, INTERACTIONS + "1,a,10\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_logs(logs(tmp_path)).user_ids == ("1", "2")


# -- what is refused, with its place ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("interactions", "place", "problem"),
    [
        (INTERACTIONS + ",a,4\n", "row 6, column 'user_id'", "the id is missing"),
        (INTERACTIONS + "3,  ,4\n", "row 6, column 'item_id'", "the id is missing"),
        (INTERACTIONS + "3,a\n", "row 6, column 'timestamp'", "neither a number nor"),
        (INTERACTIONS + "3,a,noon\n", "row 6, column 'timestamp'", "'noon' is neither"),
        (INTERACTIONS + "3,a,NaN\n", "row 6, column 'timestamp'", "'NaN' is neither"),
        (INTERACTIONS + "3,a,inf\n", "row 6, column 'timestamp'", "'inf' is neither"),
        (INTERACTIONS + "3,a,1e300\n", "row 6, column 'timestamp'", "'1e300' is neither"),
        (INTERACTIONS + "3,a,4,5\n", "row 6, column '4'", "4 cells where the header has 3"),
        (INTERACTIONS + '3,"a,4\n', "row 6", "a quote is not closed"),
        (INTERACTIONS.replace("20", "2024-01-02"), "row 2, column", "like the others"),
        ("user_id,item,timestamp\n1,a,1\n", "row 1", "no column 'item_id'"),
        ("user_id,Item_ID,timestamp\n1,a,1\n", "row 1", "did you mean 'Item_ID'"),
        ("user_id,item_id,time_stamp\n1,a,1\n", "row 1", "did you mean 'time_stamp'"),
        ("user_id,item_id,item_id,timestamp\n1,a,a,1\n", "column 'item_id'", "2 columns have"),
        ("user_id,item_id,timestamp\n", "log.csv", "no row below"),
        ("", "log.csv", "the file is empty"),
        (" \n\n", "log.csv", "the file is empty"),
    ],
)  # fmt: skip
def test_broken_interactions(interactions: str, place: str, problem: str, tmp_path: Path) -> None:
    message = refusal(logs(tmp_path, interactions))
    assert str(tmp_path / "log.csv") in message
    assert place in message
    assert problem in message


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    latin = 'item_id,text\na,"Two\nlines"\nb,Café\n'.encode("latin-1")
    message = refusal(logs(tmp_path, items=latin))
    assert "items.csv: line 4: the byte 0xe9 is not UTF-8" in message
    assert "line 1: " in refusal(logs(tmp_path, items="item_id,t\xe9xt\n".encode("latin-1")))


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress(INTERACTIONS.encode())
    assert "gzip file is damaged" in refusal(logs(tmp_path, whole[:-9]))
    assert "gzip file is damaged" in refusal(logs(tmp_path, whole[:-8] + b"\0" * 8))
    assert "Parquet file is damaged" in refusal(logs(tmp_path, b"PAR1 and nothing else"))
    config = logs(tmp_path)
    assert "no such file" in refusal(replace(config, items=tmp_path / "nowhere.csv"))
    assert "cannot be read" in refusal(replace(config, items=tmp_path))


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("user_id", [1, None], "row 2, column 'user_id': the id is missing"),
        ("timestamp", [1.0, float("nan")], "row 2, column 'timestamp': the timestamp nan"),
        ("timestamp", [1, None], "row 2, column 'timestamp': the timestamp None"),
        ("timestamp", [dt.date(2024, 1, 1), None], "row 2, column 'timestamp': the timestamp is"),
        ("other", [1, 2], "no column 'timestamp'"),
    ],
)
def test_broken_parquet(column: str, values: list[Any], problem: str, tmp_path: Path) -> None:
    config = logs(tmp_path)
    columns: dict[str, list[Any]] = {"user_id": [1, 2], "item_id": ["a", "b"], "timestamp": [1, 2]}
    if column == "other":
        del columns["timestamp"]
    pl.DataFrame({**columns, column: values}).write_parquet(config.interactions)
    assert problem in refusal(config)


@pytest.mark.parametrize(
    ("written", "kind"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_a_separator_that_is_not_the_files(written: str, kind: str, tmp_path: Path) -> None:
    config = logs(tmp_path, INTERACTIONS.replace(",", written), separator=",")
    assert f"row 1: the cells are separated by {kind}, not commas" in refusal(config)


@pytest.mark.parametrize("separator", ["", "::", "é", '"'])
def test_an_impossible_separator(separator: str, tmp_path: Path) -> None:
    assert "one ASCII character" in refusal(logs(tmp_path, separator=separator))


def test_text_columns_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one text column"):
        logs(tmp_path, text_columns=())


def test_a_table_counts_rows_as_people_do(tmp_path: Path) -> None:
    config = logs(tmp_path)
    assert read_table(config.interactions, ["user_id"]).place(0) == "row 2"
