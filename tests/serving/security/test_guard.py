"""Who is let in: keys, tokens, certificates, nobody in particular, and off the loopback."""

import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from core.bundle import Bundle
from core.errors import SettingsError, TandemError
from serving.security.guard import Guard, caller, is_loopback
from serving.security.keys_file import read_keys, watch_keys
from serving.security.links import Link
from serving.security.rights import PROTECTED, RULES, Right
from serving.security.tls import channel_credentials, server_credentials
from serving.testing import listening
from tandem.errors import from_rpc
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tests.authority import Authority
from tests.gateway.fakes import FakeCandidate, attach_candidate
from tests.serving.security.credentials import KeysFile, bearer, guard_of, reason
from tests.tiny_bundle import write_tiny_bundle

RECOMMEND = "/tandem.v1.RecommendationService/Recommend"
SEARCH = "/tandem.v1.CandidateService/Search"
DELETE_USER = "/tandem.v1.RecommendationService/DeleteUser"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),  # noqa: S104 - an address to judge
        ("[::]", False),
        ("192.168.0.9", False),
        ("gateway", False),
        ("", False),
    ],
)
def test_a_loopback_is_told_from_other_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


async def test_on_the_loopback_everybody_may_do_everything() -> None:
    guard = Guard()
    assert {await reason(guard, method) for method in RULES} == {""}


async def test_off_the_loopback_nobody_may_without_keys() -> None:
    guard = Guard(exposed=True)
    refused = {method for method in RULES if await reason(guard, method)}
    assert refused == {method for method, rule in RULES.items() if rule.rights & PROTECTED}
    assert "/tandem.v1.CatalogService/WatchItems" in refused
    with pytest.raises(TandemError, match="--keys-file"):
        await guard.admit(DELETE_USER, ())
    assert await reason(guard, "/grpc.health.v1.Health/Check") == ""


async def test_nobody_in_particular_has_the_rights_of_the_file(keys: KeysFile) -> None:
    keys.write("[anonymous]", 'rights = ["recommend"]')
    guard = guard_of(keys)
    assert await reason(guard, RECOMMEND) == ""
    assert await reason(guard, SEARCH) == "NO_CREDENTIALS"
    assert await reason(guard, RECOMMEND, "wrong.key") == "INVALID_CREDENTIALS"


@pytest.mark.parametrize("right", sorted(PROTECTED))
def test_nobody_in_particular_may_not_have(keys: KeysFile, right: Right) -> None:
    keys.write("[anonymous]", f'rights = ["{right}"]')
    with pytest.raises(SettingsError, match=f"nobody has {right} without credentials"):
        watch_keys(keys.path)


async def test_a_file_that_changes_counts_at_once(keys: KeysFile) -> None:
    key = keys.add("shop", {Right.RECOMMEND})
    watched = watch_keys(keys.path)
    watched._check_seconds = 0
    guard = Guard(watched)
    assert await reason(guard, RECOMMEND, key) == ""
    newer = keys.add("app", {Right.RECOMMEND})
    assert await reason(guard, RECOMMEND, newer) == ""
    keys.path.write_text("[keys")
    assert await reason(guard, RECOMMEND, newer) == ""
    keys.path.write_text("")
    assert await reason(guard, RECOMMEND, newer) == "INVALID_CREDENTIALS"


async def test_an_old_key_is_good_while_it_stands_beside_the_new(keys: KeysFile) -> None:
    old, new = keys.add("shop", ()), keys.add("other", ())
    digests = [line for line in keys.text.splitlines() if line.startswith("sha256")]
    both = ", ".join(line.partition(" = ")[2] for line in digests)
    keys.path.write_text(f'[keys.shop]\nsha256 = [{both}]\nrights = ["recommend"]\n')
    guard = guard_of(keys)
    assert await reason(guard, RECOMMEND, old) == ""
    # A key names itself: the digest of another does not make it good.
    assert await reason(guard, RECOMMEND, new) == "INVALID_CREDENTIALS"


async def test_a_key_expires(keys: KeysFile) -> None:
    key = keys.add("shop", {Right.RECOMMEND}, expires="2020-01-01T00:00:00Z")
    assert await reason(guard_of(keys), RECOMMEND, key) == "CREDENTIALS_EXPIRED"


async def test_an_unknown_name_takes_the_comparisons_of_a_known(
    keys: KeysFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.add("shop", {Right.RECOMMEND})
    compared: list[tuple[int, int]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    guard = guard_of(keys)
    for name in ("shop", "nobody"):
        assert await reason(guard, RECOMMEND, f"{name}.secret") == "INVALID_CREDENTIALS"
    assert compared == [(64, 64)] * 2


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Basic c2hvcDpzZWNyZXQ="),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (*bearer("shop.secret"), *bearer("shop.secret")),
    ],
)
async def test_what_shows_no_bearer_or_two_is_refused(
    keys: KeysFile, metadata: tuple[tuple[str, str], ...]
) -> None:
    keys.add("shop", {Right.RECOMMEND})
    with pytest.raises(TandemError) as caught:
        await guard_of(keys).admit(RECOMMEND, metadata)
    assert caught.value.reason == "INVALID_CREDENTIALS"


@pytest.mark.parametrize(
    "text",
    [
        "[keys.shop]\nsha256 = 'short'\nrights = []",
        f"[keys.shop]\nsha256 = '{'0' * 64}'\nrights = ['everything']",
        f"[keys.'a.b']\nsha256 = '{'0' * 64}'",
        f"[keys.shop]\nsha256 = '{'0' * 64}'\nright = []",
        f"[keys.shop]\nsha256 = '{'0' * 64}'\ncalls_per_second = 0",
        "[[tokens]]\nalgorithm = 'none'\nkey_file = 'k'\nissuer = 'i'\naudience = 'a'",
        "[[tokens]]\nalgorithm = 'HS256'\nkey_file = 'absent'\nissuer = 'i'\naudience = 'a'",
        "no toml",
    ],
)
def test_a_file_that_says_something_impossible_is_refused(keys: KeysFile, text: str) -> None:
    keys.path.write_text(text)
    with pytest.raises(SettingsError, match=str(keys.path)):
        watch_keys(keys.path)


# Certificates, and keys on a connection


async def test_a_certificate_has_the_rights_of_its_name(keys: KeysFile, tmp_path: Path) -> None:
    keys.write('[certificates."gateway"]', 'rights = ["internal"]')
    authority = Authority()
    server = authority.files(tmp_path, "candidate")
    outcomes = {}
    seen: list[str] = []
    with seeing(tmp_path, seen) as fake:
        guard = guard_of(keys, certified=True)
        async with listening(
            fake, attach_candidate, guard=guard, tls=server_credentials(server)
        ) as address:
            for name in ("gateway", "somebody"):
                files = authority.files(tmp_path, name)
                credentials = channel_credentials(files.watched().current())
                async with grpc.aio.secure_channel(address, credentials) as channel:
                    outcomes[name] = await search(channel)
            key = keys.add("service", {Right.INTERNAL})
            link_key = tmp_path / "service.key"
            link_key.write_text(f"{key}\n")
            link = Link(files, link_key)
            guard._keys._check_seconds = 0  # type: ignore[union-attr]
            async with link.open(address, []) as channel:
                outcomes["key"] = await search(link.keyed(channel))
    assert outcomes == {"gateway": "OK", "somebody": "NO_CREDENTIALS", "key": "OK"}
    assert seen == ["certificate:gateway", "key:service"]


async def test_a_refused_call_is_not_read_nor_asked_admission_for(
    keys: KeysFile, tmp_path: Path
) -> None:
    keys.add("shop", {Right.RECOMMEND})
    asked: list[str] = []
    with seeing(tmp_path, []) as fake, capture_logs() as logs:
        fake.retry_after = asked.append  # type: ignore[attr-defined]
        async with (
            listening(fake, attach_candidate, guard=guard_of(keys)) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            call: Any = channel.unary_unary(SEARCH)
            for _ in range(50):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"\xff no message", timeout=30, metadata=(("x-request-id", "r1"),))
    failure = from_rpc(caught.value)
    assert (failure.reason, failure.request_id) == ("NO_CREDENTIALS", "r1")
    assert not fake.requests
    assert not asked
    # One line for many: whoever sends them fills no log.
    lines = [line for line in logs if line["event"] == "calls not let in"]
    assert 1 <= len(lines) < 50
    assert lines[0]["reasons"] == {"NO_CREDENTIALS": 1}
    assert not [line for line in logs if line["event"] == "call"]


async def search(channel: grpc.aio.Channel) -> str:
    try:
        await pb_grpc.CandidateServiceStub(channel).Search(pb.SearchRequest(), timeout=30)
    except grpc.aio.AioRpcError as error:
        return from_rpc(error).reason
    return "OK"


@contextmanager
def seeing(tmp_path: Path, seen: list[str]) -> Iterator[FakeCandidate]:
    """A service that notes who calls it."""

    class Seeing(FakeCandidate):
        async def enter(self, *arguments: Any) -> None:
            who = caller.get()
            seen.append(who.name if who else "")
            await super().enter(*arguments)

    yield Seeing(Bundle.open(write_tiny_bundle(tmp_path)))


def test_names_of_a_certificate_come_in_order(keys: KeysFile) -> None:
    keys.write('[certificates."b"]', 'rights = ["internal"]', "[certificates.'c']")
    keyring = read_keys(keys.path.read_bytes(), keys.path.parent)
    found: Mapping[str, Any] = {
        names: (who and who.name)
        for names in ("a", "ab", "cb")
        for who in [keyring.certified(names)]
    }
    assert found == {"a": None, "ab": "certificate:b", "cb": "certificate:c"}
