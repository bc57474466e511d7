"""Calls of services that are guarded: names of certificates, keys, and being refused."""

from pathlib import Path
from typing import Any

import pytest

from core import errors
from core.bundle import Bundle
from core.errors import SettingsError
from gateway.calls.caller import CallPolicy
from gateway.calls.clients import CandidateClient
from gateway.deadline import Deadline
from gateway.settings import GatewaySettings
from serving.security.guard import Guard
from serving.security.keys_file import watch_keys
from serving.security.links import Link
from serving.security.rights import Right
from serving.security.tls import TlsFiles, server_credentials
from serving.testing import listening
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tests.authority import Authority
from tests.gateway.fakes import FakeCandidate, attach_candidate
from tests.serving.security.credentials import KeysFile
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path))


async def get_item(client: CandidateClient) -> list[str]:
    deadline = Deadline.of_caller(10, default=10, limit=10)
    answer = await client.get_items(catalog_pb.GetItemsRequest(item_ids=["i1"]), deadline)
    return [item.item_id for item in answer.items]


async def test_the_certificate_of_an_address_has_the_name_that_was_looked_up(
    bundle: Bundle, tmp_path: Path
) -> None:
    authority = Authority()
    trusted = TlsFiles(authority=authority.write(tmp_path))
    found = {}
    for name in ("localhost", "elsewhere"):
        pair = authority.issue(name, anywhere=False).write(tmp_path, name)
        tls = server_credentials(TlsFiles(*pair))
        async with listening(FakeCandidate(bundle), attach_candidate, tls=tls) as address:
            target = f"dns:///localhost:{address.rpartition(':')[2]}"
            client = CandidateClient(target, bundle.version, CallPolicy(link=Link(trusted)))
            try:
                found[name] = await get_item(client)
            except errors.Unavailable as error:
                found[name] = [error.reason]
            await client.close()
    assert found == {"localhost": ["i1"], "elsewhere": ["SERVICE_UNAVAILABLE"]}


async def test_a_new_key_is_shown_and_a_wrong_one_is_the_gateways_fault(
    bundle: Bundle, tmp_path: Path
) -> None:
    keys = KeysFile(tmp_path / "keys.toml")
    good, key = keys.add("gateway", {Right.INTERNAL}), tmp_path / "service.key"
    wrong = keys.add("shop", {Right.RECOMMEND})
    guard = Guard(watch_keys(keys.path))
    async with listening(FakeCandidate(bundle), attach_candidate, guard=guard) as address:
        key.write_text(wrong)
        policy = CallPolicy(link=Link(key_file=key, check_seconds=0))
        client = CandidateClient(address, bundle.version, policy)
        with pytest.raises(errors.Internal) as caught:
            await get_item(client)
        assert caught.value.reason == "SERVICE_REFUSED"
        key.write_text(f"{good}\n")
        assert await get_item(client) == ["i1"]
        await client.close()


def settings(tmp_path: Path, **flags: Any) -> GatewaySettings:
    return GatewaySettings(bundle=write_tiny_bundle(tmp_path), **flags)


def test_half_of_what_tls_needs_is_refused(tmp_path: Path) -> None:
    pair = Authority().issue("gateway").write(tmp_path, "gateway")
    with pytest.raises(SettingsError, match="--service-authority"):
        _ = settings(tmp_path, service_certificate=pair[0], service_certificate_key=pair[1]).calls
    authority = Authority().write(tmp_path)
    with pytest.raises(SettingsError, match="--service-certificate-key"):
        _ = settings(tmp_path, service_authority=authority, service_certificate=pair[0]).calls


@pytest.mark.parametrize("content", ["", "two words", "\n"])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "service.key"
    file.write_text(content)
    with pytest.raises(SettingsError, match="it is no key"):
        _ = settings(tmp_path, service_key_file=file).calls
