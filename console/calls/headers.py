"""What of an HTTP request goes on with the call that it becomes."""

from collections.abc import Mapping
from typing import Final

from serving.telemetry.request_id import REQUEST_ID_HEADER, accept_request_id

AUTHORIZATION: Final = "authorization"
API_KEY: Final = "x-api-key"
"""Another name for the same, without `Bearer`."""
MAX_VALUE: Final = 8 * 2**10
"""Characters of a header that goes on."""

_PASSED: Final = (AUTHORIZATION, "traceparent", "tracestate", "x-tandem-bundle-version")

Metadata = tuple[tuple[str, str], ...]


def metadata_of(headers: Mapping[str, str]) -> Metadata:
    """The metadata of the call: credentials, the request's id, its trace, and a bundle's version.

    Args:
        headers: of the request, whatever their case. A value that gRPC cannot carry is left out.
    """
    passed = {name: headers[name] for name in _PASSED if name in headers}
    if API_KEY in headers:
        passed.setdefault(AUTHORIZATION, f"Bearer {headers[API_KEY]}")
    passed[REQUEST_ID_HEADER] = accept_request_id(headers.get(REQUEST_ID_HEADER))
    return tuple((name, value) for name, value in passed.items() if _fits(value))


def with_key(key: str) -> Mapping[str, str]:
    """The headers that show a key."""
    return {AUTHORIZATION: f"Bearer {key}"} if key else {}


def _fits(value: str) -> bool:
    return value.isascii() and value.isprintable() and len(value) <= MAX_VALUE
