import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.data import app
from offline.dataset import DataError, load_movielens

RUN = CliRunner()


def write_logs(folder: Path) -> list[str]:
    rows = ["who;what;when;stars", "1;a;1;5", "1;b;2;5", "1;b;2;5", "2;a;3;1", "2;c;4;5"]
    (folder / "log.csv").write_text("\n".join(rows))
    (folder / "items.csv").write_text("sku;name;about\na;A;first\nb;B;second\nc;C;\n")
    return [str(folder / "log.csv"), str(folder / "items.csv")]


OPTIONS = shlex.split(
    "--user-column who --item-column what --timestamp-column when --rating-column stars "
    "--item-id-column sku --text-column name --text-column about --min-core 1"
)


def test_check_reports_what_becomes_of_the_logs(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["check", *write_logs(tmp_path), *OPTIONS, "--min-rating", "2"])
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[:4] == ["interactions read 5", "interactions kept 3", "users 2", "items 3"]
    assert lines[4] == "! 1 interaction given twice; the first is row 4: '1', 'b'"
    assert lines[5] == "! 1 interaction rated below 2; the first is row 5: '2', 'a'"


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["check", *write_logs(tmp_path), "--separator", ","])
    assert isinstance(result.exception, DataError)  # `tandem` prints it in one line
    assert "separated by semicolons" in str(result.exception)


def test_fetch_prints_where_the_files_are(tmp_path: Path) -> None:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::2::3::4\n")
    (folder / "movies.dat").write_text("2::A (1999)::Drama\n")
    result = RUN.invoke(app, ["fetch", "ml-1m", "--directory", str(tmp_path)])
    assert result.stdout.strip() == str(folder)
    assert load_movielens("ml-1m", tmp_path, min_core=1).items[0].title == "A (1999)"


@pytest.mark.parametrize("arguments", [["fetch", "ml-20m"], ["check", "one"], ["fetch"]])
def test_usage_errors(arguments: list[str]) -> None:
    assert RUN.invoke(app, arguments).exit_code == 2
