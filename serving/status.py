"""Errors as the rich status that travels with a failed call (https://google.aip.dev/193)."""

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from core.errors import ResourceExhausted, TandemError

DOMAIN = "tandem"

# A status travels in HTTP/2 trailers, which clients limit to 8 KiB: what a caller sent is cut when
# it is quoted back.
MAX_MESSAGE_CHARACTERS = 500
MAX_METADATA_CHARACTERS = 200


def to_status(error: TandemError) -> status_pb2.Status:
    """Renders an error as the rich status that travels in `grpc-status-details-bin`."""
    metadata = {
        key: _shorten(value, MAX_METADATA_CHARACTERS) for key, value in error.metadata.items()
    }
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    ]
    if isinstance(error, ResourceExhausted):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    message = _shorten(error.message, MAX_MESSAGE_CHARACTERS)
    return status_pb2.Status(code=error.code, message=message, details=packed)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
