"""TLS and mTLS of a server: who gets in, and certificates that change while it serves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from core.bundle import Bundle
from core.errors import SettingsError
from gateway.calls.caller import CallPolicy
from gateway.calls.clients import CandidateClient
from gateway.deadline import Deadline
from serving.security.links import Link
from serving.security.setup import server_tls
from serving.security.tls import TlsFiles, channel_credentials, server_credentials
from serving.settings import ServerSettings
from serving.testing import listening
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tests.authority import Authority
from tests.gateway.fakes import FakeCandidate, attach_candidate
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def fake(tmp_path: Path) -> FakeCandidate:
    return FakeCandidate(Bundle.open(write_tiny_bundle(tmp_path)))


@pytest.fixture
def authority() -> Authority:
    return Authority()


async def search(address: str, files: TlsFiles | None) -> str:
    """The code of a call by a caller with these files; None is one without TLS."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    if files is None:
        channel = grpc.aio.insecure_channel(address, options)
    else:
        credentials = channel_credentials(files.watched().current())
        channel = grpc.aio.secure_channel(address, credentials, options)
    async with channel:
        try:
            await pb_grpc.CandidateServiceStub(channel).Search(pb.SearchRequest(), timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


@asynccontextmanager
async def secured(fake: FakeCandidate, files: TlsFiles) -> AsyncIterator[str]:
    async with listening(fake, attach_candidate, tls=server_credentials(files)) as address:
        yield address


async def test_tls_serves_who_trusts_its_authority(
    fake: FakeCandidate, authority: Authority, tmp_path: Path
) -> None:
    own = authority.files(tmp_path, "candidate")
    other = TlsFiles(authority=Authority().write(tmp_path, "other"))
    async with secured(fake, replace(own, authority=None)) as address:
        assert await search(address, TlsFiles(authority=own.authority)) == "OK"
        assert await search(address, other) == "UNAVAILABLE"
        assert await search(address, None) == "UNAVAILABLE"


async def test_mtls_serves_certificates_of_its_authority_alone(
    fake: FakeCandidate, authority: Authority, tmp_path: Path
) -> None:
    own = authority.files(tmp_path, "candidate")
    caller = authority.files(tmp_path, "gateway")
    foreign = Authority("other").issue("gateway").write(tmp_path, "foreign")
    async with secured(fake, own) as address:
        assert await search(address, caller) == "OK"
        assert await search(address, TlsFiles(authority=own.authority)) == "UNAVAILABLE"
        assert await search(address, TlsFiles(*foreign, own.authority)) == "UNAVAILABLE"


async def test_a_new_certificate_is_shown_without_a_restart(
    fake: FakeCandidate, authority: Authority, tmp_path: Path
) -> None:
    own = replace(authority.files(tmp_path, "candidate"), authority=None)
    old = TlsFiles(authority=authority.write(tmp_path, "old"))
    newer = Authority()
    new = TlsFiles(authority=newer.write(tmp_path, "new"))
    async with secured(fake, own) as address:
        assert (await search(address, old), await search(address, new)) == ("OK", "UNAVAILABLE")
        newer.issue("candidate").write(tmp_path, "candidate")
        assert (await search(address, old), await search(address, new)) == ("UNAVAILABLE", "OK")


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\nMII", None])
async def test_a_broken_certificate_keeps_the_old_one(
    fake: FakeCandidate, authority: Authority, tmp_path: Path, broken: bytes | None
) -> None:
    own = replace(authority.files(tmp_path, "candidate"), authority=None)
    trusted = TlsFiles(authority=authority.write(tmp_path))
    # None is a good certificate, whose key is not written yet.
    content = Authority().issue("candidate").certificate if broken is None else broken
    async with secured(fake, own) as address:
        with capture_logs() as logs:
            assert own.certificate is not None
            own.certificate.write_bytes(content)
            assert [await search(address, trusted) for _ in range(2)] == ["OK", "OK"]
        (line,) = [line for line in logs if line["event"] == "files not taken over"]
        assert str(own.certificate) in line["files"]
        authority.issue("candidate").write(tmp_path, "candidate")
        assert await search(address, trusted) == "OK"


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key"])
def test_half_of_a_pair_is_refused_at_start(
    authority: Authority, tmp_path: Path, missing: str
) -> None:
    own = authority.files(tmp_path, "candidate")
    flags = {"tls_certificate": own.certificate, "tls_key": own.key, missing: None}
    settings = ServerSettings(bundle=write_tiny_bundle(tmp_path), **flags)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="--tls-certificate and --tls-key"):
        server_tls(settings)


def test_a_foreign_key_is_refused_at_start(authority: Authority, tmp_path: Path) -> None:
    own = authority.files(tmp_path, "candidate")
    key = authority.issue("other").write(tmp_path, "other")[1]
    settings = ServerSettings(
        bundle=write_tiny_bundle(tmp_path), tls_certificate=own.certificate, tls_key=key
    )
    with pytest.raises(SettingsError, match="not that of the certificate"):
        server_tls(settings)


class Load:
    """Calls without a pause; every failure counts."""

    def __init__(self, client: CandidateClient) -> None:
        self._client = client
        self._answered = asyncio.Condition()
        self.calls = 0

    async def run(self) -> None:
        while True:
            deadline = Deadline.of_caller(10, default=10, limit=10)
            await self._client.get_items(catalog_pb.GetItemsRequest(item_ids=["i1"]), deadline)
            async with self._answered:
                self.calls += 1
                self._answered.notify_all()

    async def progress(self, calls: int = 8) -> None:
        """Waits for some calls that begin from now on."""
        goal = self.calls + calls
        async with self._answered:
            await self._answered.wait_for(lambda: self.calls >= goal)


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
async def test_rotations_under_load_fail_no_call(
    fake: FakeCandidate, tmp_path: Path, times: int
) -> None:
    """Both sides' certificates and authority change, as an operator would have them change."""
    present = Authority()
    server = present.files(tmp_path, "candidate")
    caller = present.files(tmp_path, "gateway")
    withdrawn = TlsFiles(*present.issue("gateway").write(tmp_path, "withdrawn"), server.authority)
    assert server.authority is not None
    policy = CallPolicy(retry_ratio=0.0, link=Link(caller, check_seconds=0))
    async with secured(fake, server) as address:
        client = CandidateClient(address, fake.version, policy)
        load = Load(client)
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(load.run()) for _ in range(4)]
            for _ in range(times):
                newer = Authority()
                server.authority.write_bytes(present.certificate + newer.certificate)
                await load.progress()
                for name in ("candidate", "gateway"):
                    newer.issue(name).write(tmp_path, name)
                    await load.progress()
                server.authority.write_bytes(newer.certificate)
                await load.progress()
                present = newer
            assert await search(address, withdrawn) == "UNAVAILABLE"
            assert await search(address, caller) == "OK"
            for task in running:
                task.cancel()
        await client.close()


def test_a_password_is_not_asked_for(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    own = authority.issue("candidate")
    key: Any = load_pem_private_key(own.key, None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    files = TlsFiles(*replace(own, key=locked).write(tmp_path, "candidate"))
    with pytest.raises(SettingsError, match="encrypted"):
        server_credentials(files)
