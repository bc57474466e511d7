"""A user's own logs, and the bundle that one command builds of them."""

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.bundle import Bundle
from core.catalog import Delete
from tandem.v1 import recommendation_service_pb2 as pb
from tests.offline.tiny_models import save_text_embedder
from tests.pipeline.made_up_store import append, put

USERS, ITEMS = 40, 24
WRITTEN = {i: (f"a fine thing, number {i}", "scribe-1") for i in (2, 3, 5, 8, 13, 21)}
"""What a language model wrote about some of the items, and its name."""


@dataclass(frozen=True)
class Shop:
    """A made-up shop: its files, and where its bundles go."""

    root: Path
    store: Path | None
    """Of its live catalog."""

    def build(
        self, *options: str, interpreter: tuple[str, ...] = (sys.executable, "-m", "cli.main")
    ) -> "subprocess.CompletedProcess[str]":
        """Runs `tandem build` on the shop's logs."""
        command = [
            *interpreter, "build", "--name", "shop",
            "--interactions", str(self.root / "orders.csv"),
            "--items", str(self.root / "products.csv"),
            "--user-column", "customer", "--item-column", "sku", "--timestamp-column", "at",
            "--item-id-column", "sku", "--text-column", "title", "--attribute-column", "color",
            "--embedder", str(self.root / "embedder"), "--epochs", "2", "--query-epochs", "1",
            "--work", str(self.root / "work"), "--bundles", str(self.root / "bundles"),
            *(("--store", str(self.store)) if self.store else ()), *options,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=False)

    @property
    def bundle(self) -> Bundle:
        return Bundle.open(self.root / "bundles" / "shop" / "current")


def write_shop(root: Path, *, live: bool = False) -> Shop:
    """Writes its files.

    Args:
        root: where to.
        live: whether the last item is missing from the table, and in a store instead, which has
            deleted the second.
    """
    rng = np.random.default_rng(0)
    with (root / "orders.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer", "sku", "at"])
        for user in range(USERS):
            start, length = rng.integers(ITEMS), rng.integers(8, 14)
            rows.writerows([f"c{user}", f"s{(start + t) % ITEMS}", t] for t in range(length))
    with (root / "products.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "title", "color", "generated_text", "generated_by"])
        rows.writerows(
            [f"s{i}", f"product {i}", ("red", "blue")[i % 2], *WRITTEN.get(i, ("", ""))]
            for i in range(ITEMS - live)
        )
    save_text_embedder(root / "embedder")
    if not live:
        return Shop(root, None)
    last = put(f"s{ITEMS - 1}", f"product {ITEMS - 1}", color=("blue",))
    append(root / "items.db", [last, Delete("s1")])
    return Shop(root, root / "items.db")


def assert_red(answer: pb.RecommendResponse, history: Sequence[str]) -> None:
    """There are items, all of them red, which have even numbers, and none is of the history."""
    items = [each.item_id for each in answer.recommendations]
    assert items, answer.strategy
    assert not set(items) & set(history)
    assert all(int(item[1:]) % 2 == 0 for item in items)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives the test that happens to build the shop the time that this takes."""
    for item in items:
        if "shop" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Built once a process."""
    shop = write_shop(tmp_path_factory.mktemp("shop"), live=True)
    done = shop.build()
    assert done.returncode == 0, done.stdout + done.stderr
    return shop
