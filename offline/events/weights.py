"""What an event counts by its type: `click=1,purchase=3`."""

import math
from typing import Final, TypeAlias

from gateway.history.event import is_type
from offline.dataset.errors import DataError

EventWeights: TypeAlias = tuple[tuple[str, float], ...]
"""Types and what they count."""
LARGEST: Final = 1_000.0


def read_weights(text: str) -> EventWeights:
    """Reads what `--event-weights` says.

    Raises:
        DataError: it is not a list of types with a number from 0 to 1,000 each, or none is above 0.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not is_type(name) or not 0 <= weight <= LARGEST or name in weights:
            raise DataError(
                f"event weights are such as click=1,purchase=3, each type once, from 0 to "
                f"{LARGEST:g}, and not {part.strip()!r}"
            )
        weights[name] = weight
    if not any(weights.values()):
        raise DataError("event weights of 0 alone leave nothing to learn from")
    return tuple(weights.items())
