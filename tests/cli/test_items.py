"""`tandem items`, and the client beneath it, against a catalog over a real connection."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem import AsyncCatalogClient, CatalogClient, InvalidArgument, Item, Unavailable
from tests.cli.command import run
from tests.cli.fake_items import FakeItems, serving_items

LINES = [
    {
        "item_id": "p1",
        "title": "Lamp [brass]",
        "text": "Lamp. Brass, for the hall",
        "attributes": {"room": ["hall", "study"], "price": 12.5},
    },
    {"item_id": "p2", "text": "A chair", "attributes": {"room": "hall"}, "vector": [0.5, 2]},
    {"item_id": "p3", "text": "A table", "popularity": 7},
]
CSV = """\
sku,name,more,brand,price,size
p1,Lamp,"Brass, for the hall",Lux|Nox,12.5,1
p2,Chair,,, ,L
"""


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeItems]:
    with serving_items() as (fake, address):
        monkeypatch.setenv("TANDEM_CATALOG", address)
        yield fake


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write(tmp_path / "items.jsonl", "".join(json.dumps(line) + "\n" for line in LINES))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def attributes(catalog: FakeItems, item_id: str) -> dict[str, list[str | float]]:
    return {
        name: [v.text if v.WhichOneof("kind") == "text" else v.number for v in values.values]
        for name, values in catalog.items[item_id].attributes.items()
    }


def test_json_lines_go_in_and_come_out(catalog: FakeItems, lines: Path) -> None:
    result = run("items", "upsert", str(lines))
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout == "3 items added or replaced, 0 were as they are\n"
    assert attributes(catalog, "p1") == {"room": ["hall", "study"], "price": [12.5]}
    assert catalog.items["p1"].title == "Lamp [brass]"
    assert catalog.vectors == {"p2": [0.5, 2.0]}
    listed = run("items", "list", "-k", "0", "--json").stdout
    assert [json.loads(line)["item_id"] for line in listed.splitlines()] == ["p1", "p2", "p3"]
    again = run("items", "upsert", str(write(lines.with_name("dump.jsonl"), listed)))
    assert again.stdout == "0 items added or replaced, 3 were as they are\n"


def test_csv_is_read_as_a_build_reads_it(catalog: FakeItems, tmp_path: Path) -> None:
    options = (
        "--item-id-column", "sku", "--text-column", "name", "--text-column", "more",
        "--attribute-column", "brand", "--attribute-column", "price", "--attribute-column", "size",
    )  # fmt: skip
    assert run("items", "upsert", str(write(tmp_path / "items.csv", CSV)), *options).code == 0
    lamp, chair = catalog.items["p1"], catalog.items["p2"]
    assert (lamp.title, lamp.text) == ("Lamp", "Lamp. Brass, for the hall")
    assert (chair.title, chair.text) == ("Chair", "Chair")
    assert attributes(catalog, "p1") == {"brand": ["Lux", "Nox"], "price": [12.5], "size": ["1"]}
    assert attributes(catalog, "p2") == {"size": ["L"]}


@pytest.mark.parametrize("kind", ["gzipped", "standard input"])
def test_other_ways_in(
    catalog: FakeItems, lines: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "gzipped":
        source = lines.with_suffix(".jsonl.gz")
        source.write_bytes(gzip.compress(lines.read_bytes()))
        assert run("items", "upsert", str(source)).code == 0
    else:
        with lines.open(encoding="utf-8") as file:
            monkeypatch.setattr(sys, "stdin", file)
            assert run("items", "upsert", "-").code == 0
    assert set(catalog.items) == {"p1", "p2", "p3"}


def test_calls_are_bounded_and_name_an_item_once(catalog: FakeItems, tmp_path: Path) -> None:
    texts = [("a", "one"), ("b", "two"), ("a", "three"), ("c", "x" * 4_000), ("d", "four")]
    file = write(
        tmp_path / "items.jsonl",
        "".join(json.dumps({"item_id": i, "text": text}) + "\n\n" for i, text in texts),
    )
    assert run("items", "upsert", str(file), "--batch", "2").code == 0
    assert catalog.calls == [2, 2, 1]
    assert catalog.items["a"].text == "three"


def test_what_is_refused_says_how_far_it_got(catalog: FakeItems, lines: Path) -> None:
    catalog.refuse = "p3"
    result = run("items", "upsert", str(lines), "--batch", "2")
    assert result.code == 1
    assert "2 items are in, then: item 'p3': no good" in result.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"item_id": "a"}', "\"item_id\" and \"text\" must be there"),
        ('{"item_id": 7, "text": "x"}', "must be there, and strings"),
        ('{"item_id": "a", "text": "x", "genre": "War"}', "unknown field 'genre'"),
        ('{"item_id": "a", "text": "x", "attributes": {"old": true}}', "must map names to"),
        ('{"item_id": "a", "text": "x", "attributes": {"old": []}}', "must map names to"),
        ('{"item_id": "a", "text": "x", "title": 1}', '"title" must be a string'),
        ('{"item_id": "a", "text": "x", "vector": "1"}', '"vector" must be a list'),
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ("", "no items in the file"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_before_anything_is_sent(
    catalog: FakeItems, tmp_path: Path, text: str, complaint: str
) -> None:
    good = '{"item_id": "good", "text": "x"}\n' if text else ""
    result = run("items", "upsert", str(write(tmp_path / "items.jsonl", good + text)))
    assert result.code == 1
    assert complaint in result.stderr
    assert not text or "items.jsonl, line 2: " in result.stderr
    assert not catalog.items


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("id,text\n1,x\n", "has no column 'item_id'; its columns are: id, text"),
        ("item_id,text\n1,x\n2, \n", "row 3: no text"),
        ("item_id,text\n,x\n", "row 2: no id"),
        ("", "its columns are: none"),
    ],
)
def test_a_bad_table_is_one_clear_line(
    catalog: FakeItems, tmp_path: Path, text: str, complaint: str
) -> None:
    result = run("items", "upsert", str(write(tmp_path / "items.csv", text)))
    assert (result.code, result.stderr.count("\n")) == (1, 1)
    assert complaint in result.stderr


def test_get_and_delete(catalog: FakeItems, lines: Path, tmp_path: Path) -> None:
    run("items", "upsert", str(lines))
    shown = run("items", "get", "p1, ghost")
    assert "Lamp [brass]" in shown.stdout
    assert "12.5, hall, study" in shown.stdout
    assert shown.stderr == "not in the catalog: ghost\n"
    document = json.loads(run("items", "get", "p2", "--json").stdout)
    assert document["attributes"] == {"room": ["hall"]}
    ids = write(tmp_path / "ids", "p3\n\nghost\np3\n")
    gone = run("items", "delete", "p1", "--file", str(ids))
    assert gone.stdout == "2 items removed\n"
    assert gone.stderr == "not in the catalog: ghost\n"
    assert set(catalog.items) == {"p2"}
    assert run("items", "delete").code == 2


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_CATALOG", "127.0.0.1:1")
    result = run("items", "get", "p1", "--timeout", "5")
    assert result.code == 1
    assert "no candidate service answers at 127.0.0.1:1; start one with" in result.stderr


def test_the_client(catalog: FakeItems) -> None:
    with serving_items() as (fake, address), CatalogClient(address) as client:
        items = [Item(f"p{n}", f"Product {n}", attributes={"n": n}) for n in range(7)]
        assert client.upsert_items(items).sequence == 1
        assert [item.item_id for item in client.list_items()] == [f"p{n}" for n in range(7)]
        assert client.get_items(["p6", "ghost"]).missing_item_ids == ["ghost"]
        assert client.delete_items(["p0"]).missing_item_ids == []
        fake.refuse = "bad"
        with pytest.raises(InvalidArgument, match="no good"):
            client.upsert_items([Item("bad", "x")])
    assert not catalog.items


async def test_the_async_client() -> None:
    with serving_items() as (fake, address):
        async with AsyncCatalogClient(address) as client:
            items = [Item(f"p{n}", "x", vector=[1.0, n]) for n in range(7)]
            assert (await client.upsert_items(items)).sequence == 1
            assert [i.item_id async for i in client.list_items()] == [f"p{n}" for n in range(7)]
            assert len((await client.get_items(["p6"])).items) == 1
            assert (await client.delete_items(["p0", "p0"])).missing_item_ids == ["p0"]
            fake.refuse = "bad"
            with pytest.raises(InvalidArgument):
                await client.upsert_items([Item("bad", "x")])
    async with AsyncCatalogClient("127.0.0.1:1", timeout=5) as client:
        with pytest.raises(Unavailable):
            await client.get_items(["p0"])
