"""The errors that Tandem raises, and the canonical gRPC code of each.

    TandemError
    ├── InvalidRequest      INVALID_ARGUMENT     the caller's mistake, named by `reason`
    ├── NotFound            NOT_FOUND            what the caller names does not exist
    ├── Overloaded          RESOURCE_EXHAUSTED   try again after `retry_after` seconds
    ├── DeadlineExceeded    DEADLINE_EXCEEDED    the caller's time ran out
    ├── Unavailable         UNAVAILABLE          a service that is needed cannot be reached
    ├── PreconditionFailed  FAILED_PRECONDITION  the bundle cannot do what is asked
    ├── ServiceFailed       INTERNAL             a service that is needed answered with a defect
    ├── BundleError         (never sent)         a bundle that must not be served
    └── SettingsError       (never sent)         a server that was told something impossible

Each carries a `reason` (UPPER_SNAKE_CASE, stable: callers may switch on it) and string metadata;
they travel as `google.rpc.ErrorInfo` (https://google.aip.dev/193).
"""

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "tandem"

# A status travels in HTTP/2 trailers, which clients limit to 8 KiB: what a caller sent is cut when
# it is quoted back.
MAX_MESSAGE_CHARACTERS = 500
MAX_METADATA_CHARACTERS = 200


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


class ServiceFailed(TandemError):
    """A service that is needed answered with a defect of its own."""

    code = grpc.StatusCode.INTERNAL


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


class SettingsError(TandemError):
    """A flag, an environment variable or the machine does not let the server start."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message, reason="SETTINGS_INVALID", **metadata)


def to_status(error: TandemError) -> status_pb2.Status:
    """Renders an error as the rich status that travels in `grpc-status-details-bin`."""
    metadata = {
        key: _shorten(value, MAX_METADATA_CHARACTERS) for key, value in error.metadata.items()
    }
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    ]
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    message = _shorten(error.message, MAX_MESSAGE_CHARACTERS)
    return status_pb2.Status(code=error.code.value[0], message=message, details=packed)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
