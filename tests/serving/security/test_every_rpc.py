"""Every RPC of every protobuf service, against every kind of caller."""

import importlib
import pkgutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import tandem.v1
from serving.security.guard import Guard
from serving.security.keys_file import watch_keys
from serving.security.rights import RULES, Right
from serving.security.tls import TlsFiles, channel_credentials, server_credentials
from serving.testing import listening
from tandem.errors import from_rpc
from tests.authority import Authority
from tests.serving.security.credentials import KeysFile, bearer


def descriptors() -> Iterator[MethodDescriptor]:
    """All RPCs that a process of Tandem may have."""
    names = [module.name for module in pkgutil.iter_modules(tandem.v1.__path__)]
    own = [importlib.import_module(f"tandem.v1.{name}") for name in names if name.endswith("_pb2")]
    modules: list[Any] = [*own, health_pb2, reflection_pb2, channelz_pb2]
    for module in modules:
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


RPCS = {f"/{rpc.containing_service.full_name}/{rpc.name}": rpc for rpc in descriptors()}


class Everything(grpc.GenericRpcHandler):
    """Answers every RPC with one empty message."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        rpc = RPCS.get(handler_call_details.method)
        if rpc is None:
            return None
        answer = GetMessageClass(rpc.output_type)

        async def single(request: Any, context: Any) -> Any:
            return answer()

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            yield answer()

        read, write = GetMessageClass(rpc.input_type).FromString, answer.SerializeToString
        if not rpc.server_streaming:
            return grpc.unary_unary_rpc_method_handler(single, read, write)
        if rpc.client_streaming:
            return grpc.stream_stream_rpc_method_handler(stream, read, write)
        return grpc.unary_stream_rpc_method_handler(stream, read, write)


def test_every_rpc_has_a_rule_and_every_rule_an_rpc() -> None:
    assert set(RULES) == set(RPCS)


def test_what_an_rpc_changes_is_a_field_of_its_request() -> None:
    for path, rule in RULES.items():
        assert not rule.changes or rule.changes in RPCS[path].input_type.fields_by_name


@pytest.fixture
def keys(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "keys.toml").trust_tokens()


def everything(guard: Guard, files: TlsFiles) -> AbstractAsyncContextManager[str]:
    """Serves every RPC with TLS; its address."""
    return listening(
        Everything(),
        lambda servicer, server: server.add_generic_rpc_handlers((servicer,)),
        guard=guard,
        tls=server_credentials(files),
    )


@pytest.fixture
async def server(keys: KeysFile, tmp_path: Path) -> AsyncIterator[tuple[str, TlsFiles]]:
    """Its address, and what a caller trusts."""
    for right in Right:
        keys.add(f"only-{right}", {right})
        keys.add(f"all-but-{right}", set(Right) - {right})
    files = Authority().files(tmp_path, "server")
    async with everything(Guard(watch_keys(keys.path)), replace(files, authority=None)) as address:
        yield address, TlsFiles(authority=files.authority)


@pytest.fixture
async def channel(server: tuple[str, TlsFiles]) -> AsyncIterator[grpc.aio.Channel]:
    address, trusted = server
    credentials = channel_credentials(trusted.watched().current())
    async with grpc.aio.secure_channel(address, credentials) as channel:
        yield channel


async def outcome(channel: grpc.aio.Channel, path: str, credential: str | None) -> str:
    """The reason that a call fails for, or the code where it has none."""
    rpc = RPCS[path]
    kind = "_".join(
        "stream" if streaming else "unary"
        for streaming in (rpc.client_streaming, rpc.server_streaming)
    )
    request = iter([b""]) if rpc.client_streaming else b""
    call = getattr(channel, kind)(path)(request, timeout=30, metadata=bearer(credential))
    try:
        if rpc.server_streaming:
            _ = [message async for message in call]
        else:
            await call
    except grpc.aio.AioRpcError as error:
        if rpc.client_streaming and error.details() == "Internal error from Core":
            # What gRPC's own client makes, now and then, of a stream that ends before it has sent.
            return await outcome(channel, path, credential)
        failure = from_rpc(error)
        return failure.reason or failure.code.name
    return "OK"


async def outcomes(channel: grpc.aio.Channel, credential: str | None) -> dict[str, str]:
    return {path: await outcome(channel, path, credential) for path in RPCS}


def guarded(reason: str) -> dict[str, str]:
    """What becomes of every RPC where only those that are open to all are answered."""
    return {path: reason if RULES[path].rights else "OK" for path in RPCS}


async def test_no_credentials(channel: grpc.aio.Channel) -> None:
    assert await outcomes(channel, None) == guarded("NO_CREDENTIALS")


async def test_a_wrong_key(channel: grpc.aio.Channel, keys: KeysFile) -> None:
    for wrong in ("nobody." + "x" * 43, keys.keys["only-admin"][:-1], "." * 5_000, ".", "a.b.c"):
        assert await outcomes(channel, wrong) == guarded("INVALID_CREDENTIALS")


async def test_an_expired_token(channel: grpc.aio.Channel, keys: KeysFile) -> None:
    token = keys.token(" ".join(Right), exp=time.time() - 1)
    assert await outcomes(channel, token) == guarded("CREDENTIALS_EXPIRED")


async def test_a_wrong_right(channel: grpc.aio.Channel, keys: KeysFile) -> None:
    for path, rule in RULES.items():
        if len(rule.rights) == 1:
            (right,) = rule.rights
            credentials = [
                keys.keys[f"all-but-{right}"],
                keys.token(" ".join(set(Right) - {right})),
            ]
            for credential in credentials:
                assert await outcome(channel, path, credential) == "MISSING_RIGHT", path


async def test_each_right_opens_what_it_says_and_no_more(
    channel: grpc.aio.Channel, keys: KeysFile
) -> None:
    for right in Right:
        expected = {
            path: "OK" if right in rule.rights or not rule.rights else "MISSING_RIGHT"
            for path, rule in RULES.items()
        }
        assert await outcomes(channel, keys.keys[f"only-{right}"]) == expected
        assert await outcomes(channel, keys.token(f"other {right}")) == expected


async def test_a_certificate_alone_opens_what_its_rights_say(
    keys: KeysFile, tmp_path: Path
) -> None:
    authority = Authority()
    for right in Right:
        keys.write(f'[certificates."only-{right}"]', f'rights = ["{right}"]')
    async with everything(
        Guard(watch_keys(keys.path), certified=True), authority.files(tmp_path, "server")
    ) as address:
        for name in ("nobody", *(f"only-{right}" for right in Right)):
            shown = channel_credentials(authority.files(tmp_path, name).watched().current())
            opened = name.removeprefix("only-")
            refused = "NO_CREDENTIALS" if name == "nobody" else "MISSING_RIGHT"
            expected = {
                path: "OK" if opened in rule.rights or not rule.rights else refused
                for path, rule in RULES.items()
            }
            async with grpc.aio.secure_channel(address, shown) as channel:
                assert await outcomes(channel, None) == expected


async def test_plaintext_to_tls(server: tuple[str, TlsFiles], keys: KeysFile) -> None:
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(server[0], options) as channel:
        found = await outcomes(channel, keys.add("everything", Right))
    assert set(found.values()) == {"UNAVAILABLE"}


async def test_an_rpc_without_a_rule_is_refused(
    channel: grpc.aio.Channel, keys: KeysFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/tandem.v1.CandidateService/Search"
    monkeypatch.delitem(RULES, path)
    assert await outcome(channel, path, keys.keys["only-internal"]) == "MISSING_RIGHT"
