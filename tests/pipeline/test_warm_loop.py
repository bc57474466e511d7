"""Serve, record, export, build from what serves, and swap."""

import shutil
from pathlib import Path

import pytest

from core.bundle import Bundle
from tandem import BundleClient, Client, event
from tests.cli.command import run
from tests.pipeline.conftest import USERS, Shop
from tests.processes import PATIENCE, Server, servers, start_connected


def act(client: Client) -> None:
    """Everyone sees a list, and takes two items of it."""
    for user in (f"c{user}" for user in range(USERS)):
        shown = client.recommend(user)
        kinds = ("purchase", "click", "impression")
        client.record_events(
            event(user, item.item_id, type=kind, recommendation_id=shown.recommendation_id)
            for kind, item in zip(kinds, shown.recommendations, strict=False)
        )


@pytest.mark.slow
def test_served_events_make_the_bundle_that_serves_next(shop: Shop, tmp_path: Path) -> None:
    before, root = shop.bundle, tmp_path / "bundles"
    first = root / "shop" / before.path.name
    shutil.copytree(before.path, first)
    history, events = tmp_path / "history.sqlite", tmp_path / "events.parquet"

    def server(name: str, **flags: object) -> Server:
        common = {"bundle": first, "threads": 1, **flags}
        return Server(name, ["cli.main", "serve", name], tmp_path, common)

    candidate, generator = server("candidate"), server("generator")
    gateway = server("gateway", history=history)
    with servers(candidate, generator, gateway):
        start_connected(candidate, generator, gateway)
        with Client(gateway.address, timeout=PATIENCE) as client:
            act(client)
            exported = run("export-events", str(events), "--history", str(history))
            assert exported.code == 0, exported.stderr
            done = shop.build(
                "--interactions", str(events), "--user-column", "user_id",
                "--item-column", "item_id", "--timestamp-column", "timestamp",
                "--event-weights", "interaction=1,click=1,purchase=3",
                "--warm-from", str(first), "--bundles", str(root),
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            after = Bundle.open(root / "shop" / "current")
            assert after.manifest.provenance.warm_from == before.version
            with BundleClient(gateway.address, timeout=PATIENCE) as bundles:
                bundles.activate(after.version)
                assert bundles.list() == {after.version: "serving", before.version: "held"}
            answer = client.recommend("c0", forbid_degraded=True)
    assert answer.bundle_version == after.version
    assert all(len(items) == 2 for items in taken(before, after))


def taken(before: Bundle, after: Bundle) -> list[list[int]]:
    """What each user's history has more than before."""
    lengths = {
        user: len(histories)
        for user in before.histories.user_index
        if (histories := before.histories.of(user)) is not None
    }
    return [
        list(found[lengths[user] :])
        for user in lengths
        if (found := after.histories.of(user)) is not None
    ]
