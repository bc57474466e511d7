"""BundleService, which each of the three processes has."""

import asyncio
from typing import Any, Final

from serving.bundles.named import NamedBundles, chosen
from serving.validation import identifier
from tandem.v1 import bundle_service_pb2 as pb
from tandem.v1 import bundle_service_pb2_grpc as pb_grpc

MAX_AVAILABLE: Final = 100
"""Versions of a bundle that are listed beside those that are held."""
_STATES: Final = {"serving": pb.BUNDLE_STATE_SERVING, "beside": pb.BUNDLE_STATE_HELD}


class BundleServicer(pb_grpc.BundleServiceServicer):
    """Lists, loads and activates versions."""

    def __init__(self, bundles: NamedBundles) -> None:
        self._all = bundles

    async def ListBundles(
        self, _request: pb.ListBundlesRequest, _context: Any
    ) -> pb.ListBundlesResponse:
        """Lists the versions that are held, and those that could be."""
        response = pb.ListBundlesResponse()
        for name, swapper in self._all.swappers.items():
            found = await asyncio.to_thread(swapper.available)
            bundles = self._held(name)
            held = {bundle.bundle_version for bundle in bundles}
            others = [version for version in found if version not in held][:MAX_AVAILABLE]
            response.bundles.extend(bundles)
            response.bundles.extend(
                pb.BundleVersion(
                    bundle_version=version, state=pb.BUNDLE_STATE_AVAILABLE, bundle=name
                )
                for version in others
            )
        return response

    async def LoadBundle(
        self, request: pb.LoadBundleRequest, _context: Any
    ) -> pb.LoadBundleResponse:
        """Loads a version."""
        swapper = chosen(self._all.swappers, request.bundle)
        await swapper.load(identifier(request.bundle_version, field="bundle_version"))
        return pb.LoadBundleResponse(bundles=self._held(request.bundle))

    async def ActivateBundle(
        self, request: pb.ActivateBundleRequest, _context: Any
    ) -> pb.ActivateBundleResponse:
        """Lets a version serve."""
        swapper = chosen(self._all.swappers, request.bundle)
        await swapper.activate(identifier(request.bundle_version, field="bundle_version"))
        return pb.ActivateBundleResponse(bundles=self._held(request.bundle))

    def _held(self, name: str) -> list[pb.BundleVersion]:
        return [
            pb.BundleVersion(bundle_version=version, state=_STATES[state], bundle=name)
            for version, state in self._all.held[name].states()
        ]
