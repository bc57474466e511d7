"""Versions of the bundle in the processes behind the gateway: all of them load, then all change."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import grpc
import structlog

from core.errors import TandemError
from gateway.calls.caller import Caller
from gateway.calls.failures import translate
from tandem import errors
from tandem.v1 import bundle_service_pb2 as pb
from tandem.v1 import bundle_service_pb2_grpc as pb_grpc

log = structlog.get_logger()

LOAD_SECONDS: Final = 600.0
"""How long a process may take to verify, load and warm a version."""
ACTIVATE_SECONDS: Final = 600.0
"""How long it may take to activate one: a minute for a million changes of the catalog."""


class ServiceBundles:
    """Has every known address of each service load or activate a version.

    Args:
        services: in the order in which versions are activated: the generator follows the catalog of
            the candidate, which therefore comes first.
    """

    def __init__(self, *services: Caller[Any]) -> None:
        self._services = services

    async def load(self, version: str) -> None:
        """Has all of them load a version.

        Raises:
            TandemError: one cannot; those that can have it.
        """
        await asyncio.gather(*(_load(*each, version) for each in self._stubs()))

    async def activate(self, version: str, before: str) -> None:
        """Has all of them serve a version that they have loaded.

        Raises:
            TandemError: one cannot. All have been asked to serve the one before again.
        """
        try:
            for service in self._services:
                stubs = self._stubs(service)
                await asyncio.gather(*(_activate(*each, version) for each in stubs))
        except TandemError:
            undone = [_activate(*each, before) for each in self._stubs()]
            for outcome in await asyncio.gather(*undone, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    log.warning("bundle not activated again", bundle=before, error=str(outcome))
            raise

    def _stubs(
        self, *services: Caller[Any]
    ) -> Iterator[tuple[str, "pb_grpc.BundleServiceAsyncStub"]]:
        """A stub for each address, with the name of its service."""
        for service in services or self._services:
            for channel in service.targets.channels:
                yield service.service, pb_grpc.BundleServiceStub(channel)


async def _load(service: str, stub: "pb_grpc.BundleServiceAsyncStub", version: str) -> None:
    request = pb.LoadBundleRequest(bundle_version=version)
    try:
        await stub.LoadBundle(request, timeout=LOAD_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise translate(errors.from_rpc(error), service) from error


async def _activate(service: str, stub: "pb_grpc.BundleServiceAsyncStub", version: str) -> None:
    request = pb.ActivateBundleRequest(bundle_version=version)
    try:
        await stub.ActivateBundle(request, timeout=ACTIVATE_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise translate(errors.from_rpc(error), service) from error
