"""Three real processes off the loopback, with keys and mTLS on every link."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tandem
from tandem import CatalogClient, Client, Item, filters, key_file, tls_credentials
from tests.authority import Authority
from tests.cli.command import run
from tests.pipeline.whole_bundle import write_whole_bundle
from tests.processes import PATIENCE, Server, servers, wait_until


@dataclass
class Stack:
    """Three processes, and the files of those who call them."""

    servers: dict[str, Server]
    directory: Path

    def gateway(self, key: str | None = "operator.key") -> Client:
        address = f"localhost:{self.servers['gateway'].port}"
        return Client(address, timeout=PATIENCE, **self._credentials(key))  # type: ignore[arg-type]

    def catalog(self, key: str | None = "operator.key") -> CatalogClient:
        address = f"localhost:{self.servers['candidate'].port}"
        return CatalogClient(address, timeout=PATIENCE, **self._credentials(key))  # type: ignore[arg-type]

    def _credentials(self, key: str | None) -> dict[str, object]:
        files = [self.directory / name for name in ("authority.pem", "caller.pem", "caller.key")]
        shown = key_file(self.directory / key) if key else None
        return {"credentials": tls_credentials(*files), "key": shown}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("secured")
    keys, service = directory / "keys.toml", directory / "service.key"
    arguments = ("--file", str(keys), "--service-key", str(service))
    made = run("keys", "init", *arguments, "--operator-key", str(directory / "operator.key"))
    assert made.code == 0, made.stderr
    authority, bundle = Authority(), write_whole_bundle(directory)
    trusted = authority.write(directory)
    authority.issue("caller").write(directory, "caller")
    calling = {
        "service-key-file": service,
        "service-authority": trusted,
        "service-certificate": directory / "caller.pem",
        "service-certificate-key": directory / "caller.key",
    }

    def server(name: str, **flags: object) -> Server:
        certificate, key = authority.issue(name).write(directory, name)
        common = {
            "bundle": bundle,
            "host": "0.0.0.0",  # noqa: S104 - that it is off the loopback is the point
            "keys-file": keys,
            "tls-certificate": certificate,
            "tls-key": key,
            "tls-client-authority": trusted,
        }
        return Server(name, ["cli.main", "serve", name], directory, {**common, **flags})

    candidate = server("candidate", threads=1, store=directory / "items.db")
    generator = server("generator", threads=1, **calling)
    gateway = server("gateway", history=directory / "history.sqlite", **calling)
    all_three = {"candidate": candidate, "generator": generator, "gateway": gateway}
    with servers(*all_three.values()):
        generator.flags["catalog"] = f"localhost:{candidate.start().port}"
        gateway.flags["candidate-target"] = f"localhost:{candidate.port}"
        gateway.flags["generator-target"] = f"localhost:{generator.start().port}"
        gateway.start()
        stack = Stack(all_three, directory)
        wait_until(lambda: serves(stack), "all three to serve")
        yield stack


def serves(stack: Stack) -> bool:
    with stack.gateway() as client:
        try:
            answer = client.recommend(history=["i1"], strategy="fuse", forbid_degraded=True)
        except tandem.Error:
            return False
    return bool(answer.recommendations)


def test_what_is_added_is_recommended_by_both_services(stack: Stack) -> None:
    novel = Item("new", "Film a query", title="New", attributes={"genre": "Novel"})
    with stack.catalog() as catalog, stack.gateway(key=None) as client:
        catalog.upsert_items([novel])
        for strategy in ("embedding", "generate"):
            wait_until(lambda s=strategy: recommended(client, s) == ["new"], strategy)  # type: ignore[misc]


def recommended(client: Client, strategy: tandem.requests.StrategyName) -> list[str]:
    novel = filters.equals("genre", "Novel")
    try:
        answer = client.recommend(history=["i1", "i2"], strategy=strategy, filter=novel)
    except tandem.Error:
        return []
    return [item.item_id for item in answer.recommendations]


def test_without_a_key_nothing_is_changed_or_looked_into(stack: Stack) -> None:
    with stack.catalog(key=None) as catalog, stack.gateway(key=None) as client:
        for call in (
            lambda: catalog.delete_items(["i1"]),
            lambda: next(catalog.list_items()),
            lambda: client.delete_user("ann"),
            lambda: client.get_history("ann"),
        ):
            with pytest.raises(tandem.Unauthenticated) as caught:
                call()
            assert caught.value.reason == "NO_CREDENTIALS"
        client.record_events([tandem.event("eve", "i1")])
    with stack.gateway() as client:
        assert client.delete_user("eve").deleted_events == 1


def test_without_a_certificate_there_is_no_connection(stack: Stack) -> None:
    port = stack.servers["gateway"].port
    trusting = tls_credentials(stack.directory / "authority.pem")
    for credentials in (None, trusting):
        with (
            Client(f"localhost:{port}", timeout=PATIENCE, credentials=credentials) as client,
            pytest.raises(tandem.Unavailable),
        ):
            client.recommend(history=["i1"])


def test_no_secret_is_in_a_log(stack: Stack) -> None:
    keys = [(stack.directory / name).read_text() for name in ("service.key", "operator.key")]
    for server in stack.servers.values():
        server.send(signal.SIGTERM)
        assert server.exit_code() == 0
        log = server.log.read_text()
        assert "listening" in log
        for key in keys:
            assert key.strip().partition(".")[2] not in log
    audits = [line for line in stack.servers["gateway"].lines() if line["event"] == "audit"]
    assert [line["caller"] for line in audits] == ["key:operator"]
