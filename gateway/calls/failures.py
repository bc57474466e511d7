"""What a service's failure is to the gateway's caller, and what it says about the service."""

from collections.abc import Mapping
from typing import Final

import grpc

from core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    TandemError,
    Unavailable,
)
from gateway.calls.circuit import Verdict
from tandem import errors

CALLERS_MISTAKES: Final[Mapping[grpc.StatusCode, type[TandemError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
}
"""A service that answers with one of these works: the same request fails anywhere."""

NOT_HELD: Final = "VERSION_NOT_HELD"
"""The reason of a service that works, and has another version of the bundle than was asked for."""


def is_trouble(error: Exception) -> bool:
    """Whether it is a service that failed, rather than a request that is wrong."""
    return isinstance(error, DeadlineExceeded | ResourceExhausted | Internal | Unavailable)


def judge(failure: errors.Error, *, had_time: bool, answers: bool) -> Verdict:
    """What a failed call says about its target.

    A request that asks for much may take longer than its caller has. That is not the target's
    fault, and must not close it to all others; a target that hangs answers nobody.

    Args:
        failure: what the call ended with. Where the target itself says that the time ran out, with
            a reason, it was at work.
        had_time: whether the deadline left as much time as answers take.
        answers: whether the target answered another call of the method meanwhile.
    """
    code = failure.code
    if (
        code in CALLERS_MISTAKES
        or code is grpc.StatusCode.RESOURCE_EXHAUSTED
        or failure.reason == NOT_HELD
    ):
        return Verdict.GOOD
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        if failure.reason:
            return Verdict.GOOD
        return Verdict.BAD if had_time and not answers else Verdict.NONE
    return Verdict.BAD


def translate(failure: errors.Error, service: str) -> TandemError:
    """What a service's failure is to the gateway's caller.

    A mistake in the request is the caller's, reason and all. Trouble of the service names it, but
    not its address or the text of its error; and what has no reason is trouble, because no service
    of Tandem said it.
    """
    code = failure.code
    if failure.reason and (mistake := CALLERS_MISTAKES.get(code)):
        error = mistake(failure.message, reason=failure.reason)
        error.metadata = failure.metadata
        return error
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED if not failure.reason:
            # It is gRPC that says so, of a message, and not the service of its load.
            return Internal(
                f"a message to or from the {service} service is larger than is taken",
                reason="MESSAGE_TOO_LARGE",
                service=service,
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ResourceExhausted(
                f"the {service} service is overloaded",
                reason=failure.reason,
                retry_after=failure.retry_after or 0.1,
                service=service,
            )
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            # Not the caller's credentials, but this gateway's: its settings are wrong.
            return Internal(
                f"the {service} service does not let the gateway in",
                reason="SERVICE_REFUSED",
                service=service,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"the {service} service did not answer within the caller's deadline",
                reason="DEADLINE_EXCEEDED",
                service=service,
            )
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return Unavailable(
                f"the {service} service cannot be reached",
                reason=failure.reason or "SERVICE_UNAVAILABLE",
                service=service,
            )
        case _:
            return Internal(
                f"the {service} service failed; its log has this request id",
                reason="SERVICE_FAILED",
                service=service,
            )


def set_aside(service: str) -> Unavailable:
    """The failure of a call that no target was tried for."""
    return Unavailable(
        f"the {service} service failed repeatedly, and is left alone for a moment",
        reason="CIRCUIT_OPEN",
        service=service,
    )


def unknown(service: str) -> Unavailable:
    """The failure of a call for which no address is known."""
    return Unavailable(
        f"no address of the {service} service can be looked up",
        reason="SERVICE_UNAVAILABLE",
        service=service,
    )
