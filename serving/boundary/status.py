"""Errors as the rich status that travels with a failed call (https://google.aip.dev/193)."""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from core.errors import ResourceExhausted, TandemError

DOMAIN = "tandem"

# A status travels in HTTP/2 trailers, which clients limit to 8 KiB: what a caller sent is cut when
# it is quoted back. The message is there twice: percent-encoded, where a byte takes up to three,
# and with the metadata in base64, where three bytes take four. That is 6.5 KiB at most.
MAX_MESSAGE_BYTES: Final = 1_000
MAX_METADATA_BYTES: Final = 300
"""Of a value."""
MAX_METADATA_ENTRIES: Final = 4


def to_status(error: TandemError) -> status_pb2.Status:
    """Renders an error as the rich status that travels in `grpc-status-details-bin`."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata=_metadata(error.metadata)
    )
    details: list[Message] = [info]
    if isinstance(error, ResourceExhausted):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    message = _shorten(error.message, MAX_MESSAGE_BYTES)
    return status_pb2.Status(code=error.code, message=message, details=packed)


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    entries = islice(metadata.items(), MAX_METADATA_ENTRIES)
    return {key: _shorten(value, MAX_METADATA_BYTES) for key, value in entries}


def _shorten(text: str, limit: int) -> str:
    """Cuts a text to so many bytes of UTF-8, between two characters."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - len("…".encode())].decode(errors="ignore") + "…"
