"""The client of versions: which ones a process holds, and which one serves."""

from typing import Final

import grpc

from tandem.calls import Calls
from tandem.channel import Secret, channel_options
from tandem.v1 import bundle_service_pb2 as pb
from tandem.v1 import bundle_service_pb2_grpc as pb_grpc

DEFAULT_BUNDLE_TIMEOUT: Final = 600.0
"""Seconds; a large version takes minutes to be verified, loaded and warmed."""

_OPTIONS: Final = channel_options(["tandem.v1.BundleService"])
_STATES: Final = {
    pb.BUNDLE_STATE_SERVING: "serving",
    pb.BUNDLE_STATE_HELD: "held",
    pb.BUNDLE_STATE_AVAILABLE: "available",
}


class BundleClient(Calls):
    """Changes versions of the bundle from sync code; safe to share between threads.

        with tandem.BundleClient("gateway:50050") as bundles:
            bundles.activate("ml-100k/0a1b2c3d4e5f")

    Args:
        target: a gateway's address, for it and all that is behind it; or that of one process.
        timeout: seconds that a call may take unless it says otherwise.
        credentials: of a TLS connection, such as `tandem.tls_credentials` makes; without them the
            connection is plain.
        key: a key or a token to show at each call, or what is asked for it; see `tandem.key_file`.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = DEFAULT_BUNDLE_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        key: Secret | None = None,
    ) -> None:
        super().__init__(target, _OPTIONS, timeout, credentials, key)
        self._stub = pb_grpc.BundleServiceStub(self._keyed)

    def list(self, bundle: str = "", *, timeout: float | None = None) -> dict[str, str]:
        """The versions, each `serving`, `held` or `available`, in that order.

        Args:
            bundle: the name of one of the gateway's bundles; empty for that without one.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        return self.list_all(timeout=timeout).get(bundle, {})

    def list_all(self, *, timeout: float | None = None) -> dict[str, dict[str, str]]:
        """The versions of each of a gateway's bundles, by its name; see `list`.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        answer = self._call(self._stub.ListBundles, pb.ListBundlesRequest(), timeout)
        found: dict[str, dict[str, str]] = {}
        for each in answer.bundles:
            states = found.setdefault(each.bundle, {})
            states[each.bundle_version] = _STATES.get(each.state, "")
        return found

    def load(self, version: str, *, bundle: str = "", timeout: float | None = None) -> None:
        """Has a version verified, loaded and warmed beside the one that serves.

        Args:
            version: its name and version, such as `ml-100k/0a1b2c3d4e5f`.
            bundle: which of the gateway's bundles it is a version of; empty for that without a
                name.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`. What serves serves on.
        """
        request = pb.LoadBundleRequest(bundle_version=version, bundle=bundle)
        self._call(self._stub.LoadBundle, request, timeout)

    def activate(self, version: str, *, bundle: str = "", timeout: float | None = None) -> None:
        """Has a version serve, which is loaded first where it is not held.

        Args:
            version: its name and version.
            bundle: which of the gateway's bundles, as in `load`.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`. What served serves on.
        """
        request = pb.ActivateBundleRequest(bundle_version=version, bundle=bundle)
        self._call(self._stub.ActivateBundle, request, timeout)
