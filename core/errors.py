"""The errors that Tandem raises, and the canonical gRPC code of each.

    TandemError
    ├── InvalidArgument     INVALID_ARGUMENT     the caller's mistake, named by `reason`
    ├── NotFound            NOT_FOUND            what the caller names does not exist
    ├── Unauthenticated     UNAUTHENTICATED      who calls is not known
    ├── PermissionDenied    PERMISSION_DENIED    who calls may not do that
    ├── ResourceExhausted   RESOURCE_EXHAUSTED   try again after `retry_after` seconds
    ├── DeadlineExceeded    DEADLINE_EXCEEDED    the caller's time ran out
    ├── Unavailable         UNAVAILABLE          a service that is needed cannot be reached
    ├── FailedPrecondition  FAILED_PRECONDITION  the bundle cannot do what is asked
    ├── Internal            INTERNAL             a service that is needed answered with a defect
    ├── BundleError         (never sent)         a bundle that must not be served
    └── SettingsError       (never sent)         a server that was told something impossible

Each carries a `reason` (UPPER_SNAKE_CASE, stable: callers may switch on it) and string metadata;
they travel as `google.rpc.ErrorInfo` (https://google.aip.dev/193).
"""

from collections.abc import Mapping
from enum import IntEnum


class StatusCode(IntEnum):
    """The canonical codes in use, by gRPC's names and numbers (google/rpc/code.proto)."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class TandemError(Exception):
    """The root of the tree; never raised itself."""

    code = StatusCode.INTERNAL

    def __init__(self, message: str, *, reason: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = metadata


class InvalidArgument(TandemError):
    """The caller's mistake: the same request fails again."""

    code = StatusCode.INVALID_ARGUMENT


class NotFound(TandemError):
    """What the caller names does not exist."""

    code = StatusCode.NOT_FOUND


class Unauthenticated(TandemError):
    """Who calls is not known: no credentials, or none that are good."""

    code = StatusCode.UNAUTHENTICATED


class PermissionDenied(TandemError):
    """Who calls is known, and may not do that."""

    code = StatusCode.PERMISSION_DENIED


class DeadlineExceeded(TandemError):
    """The caller's time ran out."""

    code = StatusCode.DEADLINE_EXCEEDED


class Unavailable(TandemError):
    """A service that is needed cannot be reached; trying again may help."""

    code = StatusCode.UNAVAILABLE


class FailedPrecondition(TandemError):
    """The bundle cannot do what is asked, such as an indexing without text encoder."""

    code = StatusCode.FAILED_PRECONDITION


class Internal(TandemError):
    """A service that is needed answered with a defect of its own."""

    code = StatusCode.INTERNAL


class ResourceExhausted(TandemError):
    """The server sheds load; `retry_after` says in how many seconds to come back."""

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(
        self, message: str, *, reason: str, retry_after: float = 0.1, **metadata: str
    ) -> None:
        super().__init__(message, reason=reason, **metadata)
        self.retry_after = retry_after


class BundleError(TandemError):
    """A bundle that is incomplete, altered, or whose parts do not belong together."""

    code = StatusCode.FAILED_PRECONDITION

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message, reason="BUNDLE_INVALID", **metadata)


class SettingsError(TandemError):
    """A flag, an environment variable or the machine does not let the server start."""

    code = StatusCode.FAILED_PRECONDITION

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message, reason="SETTINGS_INVALID", **metadata)
