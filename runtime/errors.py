"""The errors that Tandem raises, and the canonical gRPC code of each.

    TandemError
    ├── InvalidRequest      INVALID_ARGUMENT     the caller's mistake, named by `reason`
    ├── NotFound            NOT_FOUND            what the caller names does not exist
    ├── Overloaded          RESOURCE_EXHAUSTED   try again after `retry_after` seconds
    ├── DeadlineExceeded    DEADLINE_EXCEEDED    the caller's time ran out
    ├── Unavailable         UNAVAILABLE          a service that is needed cannot be reached
    ├── PreconditionFailed  FAILED_PRECONDITION  the bundle cannot do what is asked
    └── BundleError         (never sent)         a bundle that must not be served

Each carries a `reason` (UPPER_SNAKE_CASE, stable: callers may switch on it) and string metadata;
they travel as `google.rpc.ErrorInfo` (https://google.aip.dev/193).
"""

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "tandem"


class TandemError(Exception):
    """The root of the tree; never raised itself."""

    code = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, *, reason: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = metadata


class InvalidRequest(TandemError):
    """The caller's mistake: the same request fails again."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(TandemError):
    """What the caller names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class DeadlineExceeded(TandemError):
    """The caller's time ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unavailable(TandemError):
    """A service that is needed cannot be reached; trying again may help."""

    code = grpc.StatusCode.UNAVAILABLE


class PreconditionFailed(TandemError):
    """The bundle cannot do what is asked, such as an indexing without text encoder."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Overloaded(TandemError):
    """The server sheds load; `retry_after` says in how many seconds to come back."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(
        self, message: str, *, reason: str, retry_after: float = 0.1, **metadata: str
    ) -> None:
        super().__init__(message, reason=reason, **metadata)
        self.retry_after = retry_after


class BundleError(TandemError):
    """A bundle that is incomplete, altered, or whose parts do not belong together."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message, reason="BUNDLE_INVALID", **metadata)


def to_status(error: TandemError) -> status_pb2.Status:
    """Renders an error as the rich status that travels in `grpc-status-details-bin`."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=error.code.value[0], message=error.message, details=packed)
