"""The client of versions: which ones a process holds, and which one serves."""

from types import TracebackType
from typing import Final, Self

import grpc

from tandem.channel import Secret, channel_options, open_channel, with_key
from tandem.errors import from_rpc
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


class BundleClient:
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
        self._channel = open_channel(target, _OPTIONS, credentials)
        self._stub = pb_grpc.BundleServiceStub(with_key(self._channel, key))
        self._timeout = timeout

    def list(self, *, timeout: float | None = None) -> dict[str, str]:
        """The versions, each `serving`, `held` or `available`, in that order.

        Raises:
            Error: the call failed; see `tandem.errors`.
        """
        try:
            answer = self._stub.ListBundles(pb.ListBundlesRequest(), timeout=self._seconds(timeout))
        except grpc.RpcError as error:
            raise from_rpc(error) from None
        return {each.bundle_version: _STATES.get(each.state, "") for each in answer.bundles}

    def load(self, version: str, *, timeout: float | None = None) -> None:
        """Has a version verified, loaded and warmed beside the one that serves.

        Args:
            version: its name and version, such as `ml-100k/0a1b2c3d4e5f`.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`. What serves serves on.
        """
        request = pb.LoadBundleRequest(bundle_version=version)
        try:
            self._stub.LoadBundle(request, timeout=self._seconds(timeout))
        except grpc.RpcError as error:
            raise from_rpc(error) from None

    def activate(self, version: str, *, timeout: float | None = None) -> None:
        """Has a version serve, which is loaded first where it is not held.

        Args:
            version: its name and version.
            timeout: seconds that the call may take, instead of the client's.

        Raises:
            Error: the call failed; see `tandem.errors`. What served serves on.
        """
        request = pb.ActivateBundleRequest(bundle_version=version)
        try:
            self._stub.ActivateBundle(request, timeout=self._seconds(timeout))
        except grpc.RpcError as error:
            raise from_rpc(error) from None

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._channel.close()

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
