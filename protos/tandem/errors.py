"""The errors that a call can end with.

Error                  any code that has no class of its own
├── InvalidArgument    the request is wrong, and `reason` says how: it fails again
├── NotFound           what the request names does not exist
├── FailedPrecondition the server's bundle cannot do this
├── Unauthenticated    the server does not know who calls: show a key, or a newer token
├── PermissionDenied   the server knows who calls, and that may not do this
├── ResourceExhausted  the server sheds load: try again after `retry_after` seconds
├── DeadlineExceeded   there was no answer in time
├── Unavailable        the server, or one that it needs, cannot be reached
└── Internal           a defect of the server; its log has the `request_id`
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import grpc
from google.rpc import error_details_pb2, status_pb2

_STATUS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEY: Final = "x-request-id"


@dataclass(eq=False)
class Error(Exception):
    """A call failed.

    Attributes:
        code: the canonical gRPC code.
        message: what was wrong, for people.
        reason: what was wrong, for programs: stable, UPPER_SNAKE_CASE; empty when the failure
            did not come from a Tandem server (a refused connection, a deadline that passed here).
        metadata: details of the reason, such as the name of the service that is down.
        request_id: finds the call in the servers' logs; empty when no server answered.
        retry_after: seconds to wait before another attempt, when the server asks for it.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}" + (f" [{self.reason}]" if self.reason else "")


class InvalidArgument(Error):
    """The request is wrong: the same request fails again."""


class NotFound(Error):
    """What the request names does not exist."""


class FailedPrecondition(Error):
    """The server's bundle cannot do what is asked."""


class Unauthenticated(Error):
    """The server does not know who calls: no credentials, or none that are good."""


class PermissionDenied(Error):
    """Who calls may not do this."""


class ResourceExhausted(Error):
    """The server sheds load, or the message is too large."""


class DeadlineExceeded(Error):
    """There was no answer in time."""


class Unavailable(Error):
    """The server, or one that it needs, cannot be reached; trying again may help."""


class Internal(Error):
    """A defect of the server."""


_CLASSES: Final[Mapping[grpc.StatusCode, type[Error]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.INTERNAL: Internal,
}


_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def from_status(status: status_pb2.Status) -> Error:
    """Reads what went wrong with one of many requests, such as the `error` of a batch's answer."""
    failure = _failure(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message)
    _read_details(status, failure)
    return failure


def from_rpc(error: grpc.RpcError) -> Error:
    """Reads a failed call of the sync or of the async API: its code and the details it carries."""
    failure = _failure(error.code(), error.details())
    # The sync and the async API have different types here; both yield pairs.
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in metadata:
        if key == _REQUEST_ID_KEY and isinstance(value, str):
            failure.request_id = value
        elif key == _STATUS_KEY and isinstance(value, bytes):
            _read_details(status_pb2.Status.FromString(value), failure)
    return failure


def _failure(code: grpc.StatusCode, message: str | None) -> Error:
    return _CLASSES.get(code, Error)(code, message or code.name)


def _read_details(status: status_pb2.Status, failure: Error) -> None:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            failure.reason, failure.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            failure.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
