"""Looking a user's history up for a call that brings none."""

import asyncio
from typing import Final

from core.errors import DeadlineExceeded, NotFound
from gateway.deadline import Deadline
from gateway.history.store import HistoryStore

HISTORY_SHARE: Final = 0.25
"""Of the caller's time, for the history store."""


async def stored_history(
    histories: HistoryStore, user_id: str, deadline: Deadline
) -> tuple[str, ...] | None:
    """The items of a user's history, oldest first; None where there is none.

    Args:
        histories: where it is stored.
        user_id: whose it is.
        deadline: of the lookup: a `HISTORY_SHARE` of the call's.

    Raises:
        DeadlineExceeded: the store did not answer in time.
    """
    try:
        async with asyncio.timeout(deadline.remaining()):
            return await histories.history(user_id)
    except TimeoutError as error:
        raise DeadlineExceeded(
            "the history store did not answer within the caller's deadline",
            reason="DEADLINE_EXCEEDED",
            service="history",
        ) from error


def unknown_user(user_id: str) -> NotFound:
    """The error of a call that needs a history which is neither sent nor stored."""
    return NotFound(
        f"user {user_id!r} has no stored history; send history_item_ids with it",
        reason="UNKNOWN_USER",
        user_id=user_id,
    )
