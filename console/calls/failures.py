"""How a call ended, where that was not well: the status that goes back, by whatever protocol."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2

from core.errors import TandemError, Unavailable
from serving.boundary.status import to_status
from serving.telemetry.request_id import REQUEST_ID_HEADER
from tandem.errors import Error, from_status

HTTP_STATUSES: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""As `google/rpc/code.proto` maps them; what is not here is 500."""
REASONS: Final = {"BODY_TOO_LARGE": 413, "BODY_TOO_LATE": 408, "UNKNOWN_HOST": 421}
"""Those that HTTP has a status of its own for."""
_STATUS_KEY: Final = "grpc-status-details-bin"
_PROTO_ANY: Final = "type.googleapis.com/"


class CallFailedError(Exception):
    """A call that was not answered.

    Args:
        status: with its details, as a server gave it.
        request_id: finds the call in the logs; empty where no server had it.
    """

    def __init__(self, status: status_pb2.Status, request_id: str = "") -> None:
        super().__init__(status.message)
        self.status: status_pb2.Status = status
        self.request_id = request_id

    @property
    def error(self) -> Error:
        """As the client would have raised it: its code, message, reason and retry delay."""
        return from_status(self.status)

    @property
    def http_status(self) -> int:
        """That stands for its code."""
        error = self.error
        return REASONS.get(error.reason) or HTTP_STATUSES.get(error.code, 500)

    def as_json(self) -> dict[str, Any]:
        """As JSON APIs have it (https://google.aip.dev/193)."""
        return {
            "error": {
                "code": self.http_status,
                "status": self.error.code.name,
                "message": self.status.message,
                "details": [_detail_as_json(detail) for detail in self.status.details],
            }
        }

    def headers(self) -> dict[str, str]:
        """That go with it: the request's id, and when to try again."""
        named = {REQUEST_ID_HEADER: self.request_id} if self.request_id else {}
        delay = self.error.retry_after
        return named if delay is None else {**named, "retry-after": str(max(1, round(delay)))}


def refused(error: TandemError, request_id: str = "") -> CallFailedError:
    """What the console itself refuses."""
    return CallFailedError(to_status(error), request_id)


def failure_of(error: grpc.RpcError, process: str, request_id: str) -> CallFailedError:
    """Reads a call that failed, with what the server says of it.

    Args:
        error: of the async API.
        process: that was called.
        request_id: of the call.
    """
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in metadata:
        if key == _STATUS_KEY and isinstance(value, bytes):
            return CallFailedError(status_pb2.Status.FromString(value), request_id)
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        # What gRPC says here names addresses, which are no business of whoever calls.
        missing = Unavailable(
            f"the {process} does not answer", reason="SERVICE_UNAVAILABLE", service=process
        )
        return refused(missing, request_id)
    status = status_pb2.Status(code=code.value[0], message=error.details() or code.name)
    return CallFailedError(status, request_id)


def _detail_as_json(detail: Any) -> dict[str, Any]:
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
        message = kind()
        if detail.Unpack(message):
            return {"@type": detail.type_url, **MessageToDict(message)}
    return {"@type": detail.type_url}
