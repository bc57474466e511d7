"""The id of a request, which crosses all three processes."""

import re
import uuid
from contextvars import ContextVar
from typing import Final

REQUEST_ID_HEADER: Final = "x-request-id"
"""The metadata key that a caller may set, and that every hop passes on and answers with."""

request_id: ContextVar[str] = ContextVar("request_id", default="")

_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def is_acceptable(sent: object) -> bool:
    """Whether a request id is one that is safe to log and to send back."""
    return isinstance(sent, str) and _ACCEPTABLE.fullmatch(sent) is not None


def accept_request_id(sent: str | None) -> str:
    """Keeps the caller's request id when it is safe to log, and makes one otherwise."""
    return sent if sent and is_acceptable(sent) else uuid.uuid4().hex
