"""BundleService, which each of the three processes has."""

import asyncio
from typing import Any, Final

from serving.bundles.held import HeldBundles
from serving.bundles.swapper import BundleSwapper
from serving.validation import identifier
from tandem.v1 import bundle_service_pb2 as pb
from tandem.v1 import bundle_service_pb2_grpc as pb_grpc

MAX_AVAILABLE: Final = 100
"""Versions that are listed beside those that are held."""
_STATES: Final = {"serving": pb.BUNDLE_STATE_SERVING, "beside": pb.BUNDLE_STATE_HELD}


class BundleServicer(pb_grpc.BundleServiceServicer):
    """Lists, loads and activates versions."""

    def __init__(self, held: HeldBundles, swapper: BundleSwapper) -> None:
        self._held = held
        self._swapper = swapper

    async def ListBundles(
        self, _request: pb.ListBundlesRequest, _context: Any
    ) -> pb.ListBundlesResponse:
        """Lists the versions that are held, and those that could be."""
        found = await asyncio.to_thread(self._swapper.available)
        bundles = self._bundles()
        held = {bundle.bundle_version for bundle in bundles}
        others = [version for version in found if version not in held][:MAX_AVAILABLE]
        available = [
            pb.BundleVersion(bundle_version=version, state=pb.BUNDLE_STATE_AVAILABLE)
            for version in others
        ]
        return pb.ListBundlesResponse(bundles=[*bundles, *available])

    async def LoadBundle(
        self, request: pb.LoadBundleRequest, _context: Any
    ) -> pb.LoadBundleResponse:
        """Loads a version."""
        await self._swapper.load(identifier(request.bundle_version, field="bundle_version"))
        return pb.LoadBundleResponse(bundles=self._bundles())

    async def ActivateBundle(
        self, request: pb.ActivateBundleRequest, _context: Any
    ) -> pb.ActivateBundleResponse:
        """Lets a version serve."""
        await self._swapper.activate(identifier(request.bundle_version, field="bundle_version"))
        return pb.ActivateBundleResponse(bundles=self._bundles())

    def _bundles(self) -> list[pb.BundleVersion]:
        return [
            pb.BundleVersion(bundle_version=version, state=_STATES[state])
            for version, state in self._held.states()
        ]
