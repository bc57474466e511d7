"""Which variant a user is in: weighted rendezvous hashing, the same in every gateway.

Each variant draws a number for the user, uniform between 0 and 1, from a hash of the experiment,
the variant and the user; the highest `-weight / ln(number)` has the user. So each variant has its
share of the users, and nothing need be stored or agreed upon. A user moves from one variant to
another only where the other's weight has grown in proportion to that of the first; where a variant
goes, its users alone move. (Thaler and Ravishankar, 1998; the weights after Schindelhauer and
Schomaker, 2005.)
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache


def subject(user_id: str, history: Sequence[str]) -> bytes:
    """Whom a variant is drawn for: the user, or where there is none whoever has that history."""
    return _digest("user", user_id) if user_id else _digest("history", *history)


def assigned(experiment: str, weights: Iterable[tuple[str, float]], subject: bytes) -> str | None:
    """The variant that has somebody.

    Args:
        experiment: names what is drawn; another one shuffles everybody.
        weights: of variants by their names.
        subject: as the function of this name makes it.

    Returns:
        The name; None where no weight is above 0.
    """
    scores = (
        (weight / -math.log(_uniform(experiment, name, subject)), name)
        for name, weight in weights
        if weight > 0
    )
    best = max(scores, default=None)
    return None if best is None else best[1]


def _uniform(experiment: str, name: str, subject: bytes) -> float:
    """A number above 0 and below 1."""
    drawn = hashlib.blake2b(subject, digest_size=8, key=_key(experiment, name)).digest()
    return ((int.from_bytes(drawn, "big") >> 12) + 0.5) / 2**52


@lru_cache(maxsize=1_024)
def _key(experiment: str, name: str) -> bytes:
    """Of a variant's draws."""
    return _digest(experiment, name)


def _digest(*parts: str) -> bytes:
    """Of texts, each with its length, so that no two sequences run together into one."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        hasher.update(len(encoded).to_bytes(4, "big") + encoded)
    return hasher.digest()
