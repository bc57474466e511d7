"""Items come and go while three real processes serve, and while these come and go themselves."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tandem
from tandem import CatalogClient, Client, Item, filters
from tandem.requests import StrategyName
from tests.pipeline.genres import STRATEGIES, recommended, wait_for
from tests.pipeline.whole_bundle import write_whole_bundle
from tests.processes import PATIENCE, Server, servers, start_connected, wait_until


@dataclass
class Stack:
    """Three processes, and clients that live as long as all of them."""

    candidate: Server
    generator: Server
    gateway: Server
    client: Client
    catalog: CatalogClient
    store: Path

    def recommended(self, strategy: StrategyName, genre: str) -> list[str]:
        """The items of a genre; none while a service is away."""
        try:
            return recommended(self.client, strategy, genre)
        except (tandem.Unavailable, tandem.DeadlineExceeded):
            return []

    def wait_for(self, genre: str, *items: str) -> None:
        wait_for(self.recommended, genre, *items)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("live")
    bundle, store = write_whole_bundle(directory), directory / "items.db"

    def server(name: str, **flags: object) -> Server:
        common = {"bundle": bundle, **flags}
        return Server(name, ["cli.main", "serve", name], directory, common)

    candidate = server("candidate", threads=1, store=store)
    generator, gateway = server("generator", threads=1), server("gateway")
    with servers(candidate, generator, gateway):
        start_connected(candidate, generator, gateway)
        with (
            Client(gateway.address, timeout=PATIENCE) as client,
            CatalogClient(candidate.address, timeout=PATIENCE) as catalog,
        ):
            yield Stack(candidate, generator, gateway, client, catalog, store)


def test_a_new_item_is_recommended_and_a_removed_one_is_gone(stack: Stack) -> None:
    novel = Item("new", "Film a query", title="New", attributes={"genre": "Novel", "weight": 2.5})
    stack.catalog.upsert_items([novel])
    # At once by the service that took it, and then by the one that follows.
    assert stack.recommended("embedding", "Novel") == ["new"]
    assert "new" in [item.item_id for item in stack.client.similar_items(text="a query").items]
    stack.wait_for("Novel", "new")
    heavy = stack.client.recommend(
        history=["i1"], strategy="fuse", filter=filters.between("weight", 2, 3)
    )
    (item,) = heavy.recommendations
    assert item.HasField("retrieval_score")
    assert item.HasField("generator_score")
    # In a history it is known to both, and left out of what is recommended after it.
    for strategy in STRATEGIES:
        answer = stack.client.recommend(history=["new", "i1", "ghost"], strategy=strategy)
        assert answer.missing_item_ids == ["ghost"]
        assert "new" not in [item.item_id for item in answer.recommendations]
    assert len(stack.client.similar_items(["new"]).items) == 10

    stack.catalog.delete_items(["new", "i5"])
    stack.wait_for("Novel")
    for strategy in STRATEGIES:
        wait_until(
            lambda s=strategy: (  # type: ignore[misc]
                list(stack.client.recommend(history=["i5", "i1"], strategy=s).missing_item_ids)
                == ["i5"]
            ),
            f"{strategy} to forget i5",
        )
    with pytest.raises(tandem.NotFound):
        stack.client.similar_items(["new"])
    stack.catalog.upsert_items([Item("i5", "Film 5", attributes={"genre": "Western"})])
    stack.wait_for("Western", "i5")


def test_the_candidate_is_killed_and_comes_back(stack: Stack) -> None:
    stack.catalog.upsert_items([Item("kept", "Film a", attributes={"genre": "Kept"})])
    stack.wait_for("Kept", "kept")
    stack.candidate.send(signal.SIGKILL)
    assert stack.recommended("generate", "Kept") == ["kept"]  # the generator has what it has
    stack.candidate.start().wait_serving()
    stack.wait_for("Kept", "kept")
    stack.catalog.upsert_items([Item("later", "Film query", attributes={"genre": "Later"})])
    stack.catalog.delete_items(["kept"])
    stack.wait_for("Later", "later")
    stack.wait_for("Kept")


def test_the_generator_is_killed_and_comes_back(stack: Stack) -> None:
    stack.catalog.upsert_items([Item("before", "Film a", attributes={"genre": "Around"})])
    stack.generator.send(signal.SIGKILL)
    stack.catalog.upsert_items([Item("meanwhile", "a query", attributes={"genre": "Around"})])
    stack.generator.start().wait_serving()
    stack.wait_for("Around", "before", "meanwhile")


def test_a_candidate_that_lost_its_store_is_followed_anew(stack: Stack) -> None:
    stack.catalog.upsert_items([Item("lost", "Film a", attributes={"genre": "Lost"})])
    stack.wait_for("Lost", "lost")
    stack.candidate.send(signal.SIGKILL)
    for file in stack.store.parent.glob(f"{stack.store.name}*"):
        file.unlink()
    stack.candidate.start().wait_serving()
    stack.wait_for("Lost")
    stack.catalog.upsert_items([Item("found", "Film a", attributes={"genre": "Found"})])
    stack.wait_for("Found", "found")


def test_nothing_of_it_was_a_defect(stack: Stack) -> None:
    for server in (stack.candidate, stack.generator, stack.gateway):
        assert server.alive
        assert not [line for line in server.lines() if line["level"] == "error"]
