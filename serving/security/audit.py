"""A line in the log for each change: who, what kind, how many, and what became of it.

It holds no secret, no item and no user: what was deleted is not to live on in a log.
"""

import asyncio
import logging
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, Final

import structlog

from core.errors import TandemError
from serving.security.guard import caller
from serving.security.rights import RULES, Rule

log = structlog.get_logger()
# Whatever the log level is: a record of changes that a setting for less noise ends is none.
_audit: Final = structlog.wrap_logger(
    None, wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)
)


@contextmanager
def audited(method: str, request: Any) -> Iterator[None]:
    """Writes a line at the end of a call, if that changes something.

    What comes in masses, such as recorded events, is written at level `debug`.

    Args:
        method: by its path.
        request: its message.
    """
    rule = RULES.get(method)
    if rule is None or not rule.changes:
        yield
        return
    outcome = "INTERNAL"
    try:
        yield
        outcome = "OK"
    except TandemError as error:
        outcome = error.reason
        raise
    except asyncio.CancelledError:
        outcome = "CANCELLED"
        raise
    finally:
        _write(method, rule, request, outcome)


def _write(method: str, rule: Rule, request: Any, outcome: str) -> None:
    changed, who = getattr(request, rule.changes), caller.get()
    write = log.debug if rule.routine else _audit.info
    write(
        "audit",
        caller=who.name if who else None,
        method=method,
        what=rule.changes,
        count=len(changed) if _repeated(changed) else 1,
        outcome=outcome,
    )


def _repeated(value: object) -> bool:
    return isinstance(value, Sized) and not isinstance(value, str | bytes)
