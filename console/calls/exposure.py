"""Whether calls that need protection may go through a console that others than this machine reach.

A server that listens on the loopback without keys trusts whoever calls it, because only this
machine does. A console off the loopback would lend that trust to everybody. So it lets a call that
needs protection through only to a server that has been seen to refuse one without credentials.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from core.errors import Unauthenticated
from serving.security.rights import RULES
from tandem.v1.bundle_service_pb2 import ListBundlesRequest

PROBE: Final = "/tandem.v1.BundleService/ListBundles"
"""All three processes have it, and it needs protection and changes nothing."""
PROBE_SECONDS: Final = 2.0
BELIEVED_SECONDS: Final = 10.0
_REFUSALS: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class Exposure:
    """Of a console off the loopback.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guarded: dict[str, float] = {}

    async def check(self, path: str, process: str, channel: grpc.aio.Channel) -> None:
        """Lets a call through, or says why not.

        Args:
            path: of what is called.
            process: that is called.
            channel: to it.

        Raises:
            Unauthenticated: reason NO_CREDENTIALS: the server asks nobody for any.
            grpc.RpcError: it does not say.
        """
        if path in RULES and not RULES[path].protected:
            return
        if self._clock() - self._guarded.get(process, -BELIEVED_SECONDS) < BELIEVED_SECONDS:
            return
        try:
            probe: Any = channel.unary_unary(PROBE, ListBundlesRequest.SerializeToString)
            await probe(ListBundlesRequest(), timeout=PROBE_SECONDS)
        except grpc.RpcError as error:
            if error.code() not in _REFUSALS:
                raise
            self._guarded[process] = self._clock()
            return
        raise Unauthenticated(
            f"the {process} asks nobody for credentials, and this console listens off the "
            "loopback: start the servers with --keys-file",
            reason="NO_CREDENTIALS",
        )
