"""Versions of the bundle that take each other's place while three real processes serve."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

import tandem
from cli.main import app
from tandem import BundleClient, CatalogClient, Client, Item, event
from tandem.v1 import recommendation_service_pb2 as pb
from tests.pipeline.genres import STRATEGIES, recommended, wait_for
from tests.pipeline.whole_bundle import write_whole_bundle
from tests.processes import PATIENCE, Server, servers, start_connected, wait_until

ONE, TWO = "tiny/1", "tiny/2"


@dataclass
class Stack:
    """Three processes and a second gateway, and clients that live as long as all of them."""

    servers: dict[str, Server]
    client: Client
    other: Client
    catalog: CatalogClient
    bundles: dict[str, BundleClient]
    root: Path
    """Where the versions lie."""

    def wait_for(self, genre: str, *items: str) -> None:
        """Every answer on the way is whole."""
        wait_for(partial(recommended, self.client, forbid_degraded=True), genre, *items)

    def put(self, item_id: str, genre: str, text: str = "Film a query") -> None:
        self.catalog.upsert_items([Item(item_id, text, title=item_id, attributes={"genre": genre})])

    def states(self, process: str) -> dict[str, str]:
        return self.bundles[process].list()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("swap")
    first = write_whole_bundle(directory, "1")
    write_whole_bundle(directory, "2", items=62, seed=1)

    def server(name: str, module: str, **flags: object) -> Server:
        common = {"bundle": first, "threads": 1, **flags}
        return Server(name, ["cli.main", "serve", module], directory, common)

    candidate = server("candidate", "candidate", store=directory / "items.db")
    generator = server("generator", "generator")
    variants = directory / "serving.toml"
    variants.touch()
    kept = {"history": directory / "history.sqlite", "history-key-file": directory / "ids.key"}
    gateways = [
        server(name, "gateway", **{"serving-file": variants, **histories})
        for name, histories in (("gateway", {"history": "bundle"}), ("other", kept))
    ]
    with servers(candidate, generator, *gateways), ExitStack() as opened:
        start_connected(candidate, generator, *gateways)
        by_name = {server.name: server for server in (candidate, generator, *gateways)}
        yield Stack(
            by_name,
            opened.enter_context(Client(gateways[0].address, timeout=PATIENCE)),
            opened.enter_context(Client(gateways[1].address, timeout=PATIENCE)),
            opened.enter_context(CatalogClient(candidate.address, timeout=PATIENCE)),
            {
                name: opened.enter_context(BundleClient(server.address, timeout=PATIENCE))
                for name, server in by_name.items()
            },
            directory,
        )


@pytest.fixture(autouse=True)
def _begin_with_the_first(stack: Stack) -> None:
    stack.bundles["gateway"].activate(ONE)


def versions_of(answer: pb.RecommendResponse) -> set[str]:
    """Every version that had a part in an answer."""
    return {answer.bundle_version, *(t.bundle_version for t in answer.timings if t.bundle_version)}


def test_all_processes_change_together_and_back(stack: Stack) -> None:
    names = ("gateway", "candidate", "generator")
    for now, before in ((TWO, ONE), (ONE, TWO)):
        stack.bundles["gateway"].activate(now)
        for name in names:
            assert stack.states(name) == {now: "serving", before: "held"}
        for strategy in STRATEGIES:
            answer = stack.client.recommend(history=["i1"], strategy=strategy, forbid_degraded=True)
            assert versions_of(answer) == {now}


def test_no_call_fails_and_no_answer_is_mixed_meanwhile(stack: Stack) -> None:
    """Ten swaps under load, while items come and go."""
    ended = threading.Event()

    def recommend(client: Client) -> set[frozenset[str]]:
        seen: set[frozenset[str]] = set()
        while not ended.is_set():
            for strategy in STRATEGIES:
                answer = client.recommend(
                    history=["i1", "i2"], strategy=strategy, forbid_degraded=True
                )
                assert not answer.degraded
                seen.add(frozenset(versions_of(answer)))
        return seen

    def write() -> int:
        count = 0
        while not ended.is_set():
            stack.put("turning", f"Turn {count}")
            count += 1
        return count

    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(recommend, stack.client) for _ in range(3)]
        writer = threads.submit(write)
        try:
            for turn in range(10):
                stack.bundles["gateway"].activate((TWO, ONE)[turn % 2])
        finally:
            ended.set()
        seen = set().union(*(reader.result() for reader in readers))
        last = writer.result() - 1
    assert seen == {frozenset({ONE}), frozenset({TWO})}
    stack.wait_for(f"Turn {last}", "turning")


def test_changes_of_the_catalog_stay_whichever_version_serves(stack: Stack) -> None:
    stack.put("early", "Staying")
    stack.put("i5", "Staying")
    stack.catalog.delete_items(["i7"])
    stack.bundles["gateway"].activate(TWO)
    stack.wait_for("Staying", "early", "i5")
    stack.put("late", "Staying")
    stack.put("i6", "Staying")
    stack.catalog.delete_items(["early"])
    stack.bundles["gateway"].activate(ONE)
    stack.wait_for("Staying", "i5", "i6", "late")
    assert stack.catalog.get_items(["i7", "early"]).missing_item_ids == ["i7", "early"]


def test_a_second_gateway_goes_on_until_it_changes_too(stack: Stack) -> None:
    stack.bundles["other"].activate(ONE)
    stack.bundles["gateway"].activate(TWO)
    for strategy in STRATEGIES:
        answer = stack.other.recommend(history=["i1"], strategy=strategy, forbid_degraded=True)
        assert versions_of(answer) == {ONE}
    stack.bundles["other"].activate(TWO)
    answer = stack.other.recommend(history=["i1"], strategy="fuse", forbid_degraded=True)
    assert versions_of(answer) == {TWO}


@pytest.mark.parametrize(
    ("version", "error", "reason"),
    [
        ("tiny/3", tandem.NotFound, "UNKNOWN_BUNDLE"),
        ("other/1", tandem.InvalidArgument, "OTHER_BUNDLE"),
        ("tiny/../../tiny/2", tandem.InvalidArgument, "OTHER_BUNDLE"),
        ("tiny/..", tandem.InvalidArgument, "INVALID_VERSION"),
        ("", tandem.InvalidArgument, "EMPTY_ID"),
    ],
)
def test_a_version_that_is_none(
    stack: Stack, version: str, error: type[tandem.Error], reason: str
) -> None:
    for process in ("gateway", "candidate"):
        with pytest.raises(error) as caught:
            stack.bundles[process].activate(version)
        assert caught.value.reason == reason
    assert stack.states("gateway")[ONE] == "serving"


def test_a_call_that_names_a_version_is_answered_from_it_or_not(stack: Stack) -> None:
    stack.bundles["gateway"].activate(TWO)
    with grpc.insecure_channel(stack.servers["gateway"].address) as channel:
        call: Callable[..., bytes] = channel.unary_unary(
            "/tandem.v1.RecommendationService/Recommend"
        )
        request = pb.RecommendRequest(history_item_ids=["i1"]).SerializeToString()

        def ask(version: str) -> str:
            metadata = (("x-tandem-bundle-version", version),)
            answer = call(request, metadata=metadata, timeout=PATIENCE)
            return pb.RecommendResponse.FromString(answer).bundle_version

        assert (ask(ONE), ask(TWO)) == (ONE, TWO)
        with pytest.raises(grpc.RpcError) as caught:
            ask("tiny/3")
        assert tandem.errors.from_rpc(caught.value).reason == "VERSION_NOT_HELD"


def test_an_id_outlives_its_version_and_its_gateway(stack: Stack) -> None:
    """A mail that was made by the version before is clicked after a swap, and after a restart."""
    stack.bundles["other"].activate(ONE)
    answer = stack.other.recommend("reader", history=["i1"], strategy="fuse", max_results=3)
    assert answer.bundle_version == ONE
    shown = [item.item_id for item in answer.recommendations]

    def click(item_id: str) -> pb.RecordEventsResponse:
        sealed = answer.recommendation_id
        clicked = event("reader", item_id, type="click", recommendation_id=sealed)
        return stack.other.record_events([clicked])

    stack.bundles["other"].activate(TWO)
    swapped = click(shown[0])
    assert (swapped.bundle_version, swapped.unattributed) == (TWO, 0)
    gateway = stack.servers["other"]
    gateway.send(signal.SIGTERM)
    assert gateway.exit_code() == 0
    gateway.flags["bundle"] = stack.root / "tiny" / "2"
    gateway.start().wait_serving()
    restarted = click(shown[1])
    assert (restarted.bundle_version, restarted.unattributed) == (TWO, 0)
    found = [each.attribution for each in stack.other.export_user("reader")]
    assert [(each.bundle_version, each.strategy, each.position) for each in found] == [
        (ONE, "fuse", 1),
        (ONE, "fuse", 2),
    ]
    assert {each.recommendation_id for each in found} == {answer.recommendation_id[:16]}
    assert click("not in the list").unattributed == 1
    stack.bundles["other"].activate(ONE)  # as the others begin


def flip_a_bit(path: Path, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def truncate(path: Path, rng: np.random.Generator) -> None:
    os.truncate(path, int(rng.integers(path.stat().st_size)))


def remove(path: Path, _: np.random.Generator) -> None:
    path.unlink()


def link_outside(path: Path, _: np.random.Generator) -> None:
    outside = path.parents[2] / "outside"
    shutil.copy(path, outside)
    path.unlink()
    path.symlink_to(outside)


def test_a_hundred_broken_bundles_are_refused_by_name(stack: Stack) -> None:
    rng = np.random.default_rng(0)
    broken = stack.root / "tiny" / "broken"
    manifest = json.loads((stack.root / "tiny" / "2" / "manifest.json").read_text())
    names = sorted(manifest["files"])
    for turn in range(100):
        shutil.copytree(stack.root / "tiny" / "2", broken)
        (broken / "manifest.json").write_text(json.dumps(manifest | {"version": "broken"}))
        name = names[turn % len(names)]
        breaks = (flip_a_bit, truncate, remove, link_outside)[turn // 4 % 4]
        breaks(broken / name, rng)
        with pytest.raises(tandem.FailedPrecondition) as caught:
            stack.bundles["candidate"].load("tiny/broken")
        assert caught.value.reason == "BUNDLE_INVALID"
        assert name in caught.value.message
        shutil.rmtree(broken)
    assert stack.states("candidate") == {ONE: "serving", TWO: "held"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"files": {"../1/users.json": {"sha256": "0", "bytes": 1}}}, "outside"),
        ({"files": {"/etc/passwd": {"sha256": "0", "bytes": 1}}}, "outside"),
        ({"items": 7}, "7"),
        ({"name": "other"}, "other/broken"),
        ({"files": 3}, "not a manifest"),
    ],
)
def test_a_manifest_that_lies_is_refused(
    stack: Stack, changes: dict[str, object], complaint: str
) -> None:
    broken = stack.root / "tiny" / "broken"
    shutil.copytree(stack.root / "tiny" / "2", broken)
    manifest = json.loads((broken / "manifest.json").read_text()) | {"version": "broken"}
    (broken / "manifest.json").write_text(json.dumps(manifest | changes))
    with pytest.raises(tandem.FailedPrecondition) as caught:
        stack.bundles["gateway"].activate("tiny/broken")
    shutil.rmtree(broken)
    assert caught.value.reason == "BUNDLE_INVALID"
    assert complaint in caught.value.message
    assert stack.states("gateway")[ONE] == "serving"


def test_a_variant_is_answered_by_the_version_beside(stack: Stack) -> None:
    addresses = [
        part for name in ("gateway", "other") for part in ("--address", stack.servers[name].address)
    ]
    assert f"{stack.servers['other'].address} holds {TWO}" in run(
        "bundle", "load", str(stack.root / "tiny" / "2"), *addresses
    )
    file, users = stack.root / "serving.toml", [f"user {n}" for n in range(40)]
    file.write_text(
        "[variants.control]\npercent = 50\n"
        f'[variants.next]\npercent = 50\nbundle_version = "{TWO}"\n'
    )

    def asked(client: Client, user: str) -> pb.RecommendResponse:
        return client.recommend(user, history=["i1", "i2"], strategy="fuse", forbid_degraded=True)

    def has_variant(client: Client) -> bool:
        return bool(asked(client, "ann").variant)

    for client in (stack.client, stack.other):
        wait_until(partial(has_variant, client), "the file to be read")
    answers = [asked(stack.client, user) for user in users]
    assert [asked(stack.other, user).variant for user in users] == [a.variant for a in answers]
    for answer in answers:
        made = {timing.bundle_version for timing in answer.timings} - {""}
        assert made == {answer.bundle_version} == {TWO if answer.variant == "next" else ONE}
    assert {answer.variant for answer in answers} == {"control", "next"}
    file.write_text("")
    wait_until(lambda: not has_variant(stack.client), "the file to be read again")


def test_commands_activate_and_roll_back(stack: Stack) -> None:
    addresses = [
        part for name in ("gateway", "other") for part in ("--address", stack.servers[name].address)
    ]
    root = ["--root", str(stack.root)]
    current = stack.root / "tiny" / "current"
    done = run("bundle", "activate", str(stack.root / "tiny" / "2"), *addresses, *root)
    assert f"{stack.servers['other'].address} serves {TWO}" in done
    assert current.resolve().name == "2"
    shown = run("bundle", "status", *addresses)
    assert shown.count("serving") == shown.count("held") == 2
    done = run("bundle", "rollback", *addresses, *root)
    assert f"serves {ONE}, before it {TWO}" in done
    assert current.resolve().name == "1"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output
