"""`tandem enrich` from a shop's table to a table that `tandem build` reads, and its kills."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from offline.build.source import MovieLensSource
from offline.dataset import DataError, LogsConfig, read_logs
from offline.enrich.cache import AnswerCache
from tests.cli.command import Result, run
from tests.offline.enrich.fake_endpoint import FakeEndpoint, described, serving
from tests.processes import PATIENCE, REPOSITORY, wait_until

KEY = "sk-very-secret"
ITEMS = 30


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with serving(FakeEndpoint()) as running:
        yield running


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty products, the first without a title; each user bought five of the first twenty."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    rows = ["sku,title,price", "p0,,9", *(f"p{n},thing {n} to buy,9" for n in range(1, ITEMS))]
    (tmp_path / "products.csv").write_text("\n".join(rows))
    bought = [f"u{u},p{(u + t) % 20},{t}" for u in range(20) for t in range(5)]
    (tmp_path / "orders.csv").write_text("\n".join(["user_id,sku,timestamp", *bought]))
    return tmp_path


def options(endpoint: FakeEndpoint, shop: Path, *more: str) -> list[str]:
    return [
        "enrich", "--items", str(shop / "products.csv"), "--item-id-column", "sku",
        "--text-column", "title", "--model", "fake", "--base-url", endpoint.url,
        "--out", str(shop / "out.parquet"), "--cache", str(shop / "answers.sqlite"), *more,
    ]  # fmt: skip


def enrich(endpoint: FakeEndpoint, shop: Path, *more: str) -> Result:
    return run(*options(endpoint, shop, *more))


def orders(shop: Path, items: Path) -> LogsConfig:
    return LogsConfig(
        shop / "orders.csv",
        items,
        item_column="sku",
        item_id_column="sku",
        text_columns=("title",),
        min_core=2,
    )


def test_the_table_comes_back_with_marked_columns(endpoint: FakeEndpoint, shop: Path) -> None:
    endpoint.say = lambda call: (
        "nonsense" if call.item == "thing 7 to buy" else described(call.item, genre_words=["a|b"])
    )
    done = enrich(endpoint, shop, "--yes")
    assert (done.code, done.stdout) == (0, f"28 items described in {shop / 'out.parquet'}\n")
    assert "1 items have no valid answer" in done.stderr
    table = pl.read_parquet(shop / "out.parquet")
    assert table.columns[:3] == ["sku", "title", "price"]
    assert table.columns[3:] == [
        "generated_text", "generated_description", "generated_genre_words", "generated_audience",
        "generated_by", "generated_status",
    ]  # fmt: skip
    assert table.row(2)[3:] == (
        "thing 2 to buy it is. a|b. For all.", "thing 2 to buy it is", "a b", "all", "fake",
        "generated",
    )  # fmt: skip
    assert table.row(7)[3:] == (*[None] * 5, "failed")
    assert table.row(0)[3:] == (None,) * 6  # its title is missing: an id says nothing


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_a_build_reads_and_marks_what_was_generated(
    endpoint: FakeEndpoint, shop: Path, name: str
) -> None:
    out = shop / name
    assert enrich(endpoint, shop, "--yes", "--sample", "12", "--out", str(out)).code == 0
    data, _ = read_logs(orders(shop, out))
    plain, _ = read_logs(orders(shop, shop / "products.csv"))
    marked = [item for item in data.items if "generated_text" in item.attributes]
    assert len(data.items) == 20
    assert 0 < len(marked) <= 12
    for item, before in zip(data.items, plain.items, strict=True):
        own, _, written = item.text.partition("\n")
        assert (own, item.title) == (before.text, before.title)
        assert item.attributes == ({"generated_text": ("fake",)} if item in marked else {})
        assert written == (f"{own} it is. kind. For all." if item in marked else "")
    # What is enriched again starts from its owner's text.
    calls = len(endpoint.calls)
    again = [str(out), "--yes", "--sample", "12"]
    assert enrich(endpoint, shop, "--items", *again).code == 0
    assert len(endpoint.calls) == calls


@pytest.mark.filterwarnings("ignore::offline.dataset.DataWarning")
def test_only_what_a_build_keeps_is_asked_about(endpoint: FakeEndpoint, shop: Path) -> None:
    orders = ["--interactions", str(shop / "orders.csv"), "--item-column", "sku"]
    assert enrich(endpoint, shop, "--yes", *orders).code == 0
    assert sorted(endpoint.items) == sorted(f"thing {n} to buy" for n in range(1, 20))
    assert pl.read_parquet(shop / "out.parquet").height == ITEMS


def test_only_thin_texts_are_asked_about(endpoint: FakeEndpoint, shop: Path) -> None:
    table = "sku,title\na,two words\nb,these are four words\n"
    (shop / "products.csv").write_text(table)
    assert enrich(endpoint, shop, "--yes", "--max-words", "3").code == 0
    assert endpoint.items == ["two words"]


def test_a_dry_run_asks_ten_and_writes_nothing(endpoint: FakeEndpoint, shop: Path) -> None:
    done = enrich(endpoint, shop, "--dry-run")
    assert done.code == 0
    assert len(set(endpoint.items)) == len(endpoint.calls) == 10
    assert done.stdout.count("it is. kind. For all.") == 10
    assert not (shop / "out.parquet").exists()
    # What the ten used is what the rest is estimated by; they are not asked again.
    done = enrich(endpoint, shop, "--yes", "--price-in", "10", "--price-out", "100")
    assert "19 to ask fake about: about 3,800 tokens of prompts and 950 of answers" in done.stderr
    assert "(from 10 answers)" in done.stderr
    assert "about 0.13 at these prices" in done.stderr  # 3,800 · 10 / 1e6 + 950 · 100 / 1e6
    assert len(endpoint.calls) == 29


def test_nothing_is_asked_before_consent(
    endpoint: FakeEndpoint, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.confirm", lambda *_, **__: (_ for _ in ()).throw(SystemExit(1)))
    done = enrich(endpoint, shop)
    assert (done.code, endpoint.calls) == (1, [])
    assert "29 items, 29 to ask fake about" in done.stderr
    assert "from prompt lengths" in done.stderr


def test_a_kill_loses_and_repeats_nothing_answered(endpoint: FakeEndpoint, shop: Path) -> None:
    endpoint.hold = 12
    command = [sys.executable, "-m", "cli.main", *options(endpoint, shop, "--yes")]
    killed = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    kept = shop / "answers.sqlite"

    def stored() -> int:
        try:
            with sqlite3.connect(f"file:{kept}?mode=ro", uri=True) as database:
                return int(database.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    wait_until(lambda: stored() == 12 and len(endpoint.calls) > 12, "twelve answers")
    killed.send_signal(signal.SIGKILL)
    killed.wait(PATIENCE)
    assert not (shop / "out.parquet").exists()
    under_way = set(endpoint.items[12:])
    endpoint.release()
    assert enrich(endpoint, shop, "--yes").code == 0
    times = Counter(endpoint.items)
    assert len(times) == 29
    assert {item for item, count in times.items() if count > 1} == under_way
    assert pl.read_parquet(shop / "out.parquet")["generated_text"].null_count() == 1


def test_an_interrupted_run_keeps_what_is_under_way(endpoint: FakeEndpoint, shop: Path) -> None:
    endpoint.hold = 12
    command = [sys.executable, "-m", "cli.main", *options(endpoint, shop, "--yes")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as stopped:
        wait_until(lambda: len(endpoint.calls) == 12 + 8, "eight calls to be held")
        stopped.send_signal(signal.SIGINT)
        assert stopped.stderr is not None
        assert any("waiting for the answers under way" in line for line in stopped.stderr)
        endpoint.release()
        told = stopped.stderr.read()
    assert (stopped.returncode, len(endpoint.calls)) == (130, 20)
    assert "answers so far are kept" in told
    with AnswerCache.opened(shop / "answers.sqlite") as cache:
        assert cache.size() == 20


def test_the_key_is_in_no_output_and_no_file(endpoint: FakeEndpoint, shop: Path) -> None:
    said = []
    for status in (200, 401, 500):
        endpoint.say = lambda call, s=status: described(call.item) if s == 200 else s  # type: ignore[misc]
        command = [sys.executable, "-m", "cli.main", *options(endpoint, shop, "--yes")]
        more = ["--retries", "0", "--max-words", "4", "--model", f"fake{status}"]
        debugging = {"TANDEM_DEBUG": "1", "OPENAI_LOG": "debug"}
        done = subprocess.run(
            [*command, *more], cwd=REPOSITORY, env=os.environ | debugging, capture_output=True
        )
        said.append(done.stdout + done.stderr)
        assert (done.returncode == 0) == (status == 200)
    assert all(call.authorization == f"Bearer {KEY}" for call in endpoint.calls)
    files = [path.read_bytes() for path in shop.rglob("*") if path.is_file()]
    assert [text for text in (*said, *files) if KEY.encode() in text] == []


def test_the_key_can_be_in_another_variable(
    endpoint: FakeEndpoint, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "other")
    assert enrich(endpoint, shop, "--dry-run", "--key-variable", "SHOP_KEY").code == 0
    assert endpoint.calls[0].authorization == "Bearer other"
    missing = enrich(endpoint, shop, "--dry-run", "--key-variable", "NO_SUCH_KEY")
    assert missing.code == 2
    assert "NO_SUCH_KEY holds no key" in " ".join(missing.stderr.split())


def test_an_output_of_another_kind_is_refused_first(endpoint: FakeEndpoint, shop: Path) -> None:
    done = enrich(endpoint, shop, "--yes", "--out", str(shop / "out.xlsx"))
    assert (done.code, endpoint.calls) == (1, [])
    assert "ends in .parquet or .csv" in done.stderr


def test_movielens_is_enriched_and_built_from(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    western = "|".join(["0"] * 18 + ["1"])
    films = [f"{n}|Film {n} (1990)||||{western}" for n in range(1, 7)]
    (folder / "u.item").write_text("\n".join(films))
    rows = [f"{u}\t{i}\t5\t{u * 10 + i}" for u in range(1, 7) for i in range(1, 7)]
    (folder / "u.data").write_text("\n".join(rows))
    out = tmp_path / "out.parquet"
    done = run(
        "enrich", "ml-100k", "--data", str(tmp_path), "--model", "fake", "--yes", "--sample", "2",
        "--base-url", endpoint.url, "--out", str(out), "--cache", str(tmp_path / "answers"),
    )  # fmt: skip
    assert done.code == 0, done.stderr
    plain, enriched = (
        MovieLensSource("ml-100k", tmp_path, generated).load().items for generated in (None, out)
    )
    changed = [new for old, new in zip(plain, enriched, strict=True) if old != new]
    assert [item.attributes["generated_text"] for item in changed] == [("fake",)] * 2
    assert all(item.attributes["genre"] == ("Western",) for item in changed)
    refused = run("enrich", "ml-100k", "--items", str(out), "--model", "fake")
    assert (refused.code, "brings its own items" in refused.stderr) == (2, True)
    # An item whose text was replaced since keeps that.
    item = changed[0]
    own = {item.item_id: plain[enriched.index(item)]}
    again = MovieLensSource("ml-100k", tmp_path, out).load(own).items
    assert [new for old, new in zip(plain, again, strict=True) if old != new] == changed[1:]


def test_generated_text_without_its_model_is_refused(shop: Path) -> None:
    table = shop / "products.csv"
    table.write_text("sku,title,generated_text\np1,one,made up\n")
    with pytest.raises(DataError, match="no column 'generated_by'"):
        read_logs(orders(shop, table))
    table.write_text("sku,title,generated_text,generated_by\np1,one,made up,\n")
    with pytest.raises(DataError, match=r"row 2, column 'generated_by'.*name of its model"):
        read_logs(orders(shop, table))
