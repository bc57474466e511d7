"""The id of an answer. It holds what the answer showed, sealed, so that nothing need be stored.

    name     12 bytes   random; written as 16 characters, which the id begins with
    seal     16 bytes   HMAC-SHA256 of name and body, cut
    body     form, time, strategy, place of the first item, variant, bundle version,
             then of each item a checksum of its id and its score, 8 bytes

in base64 for URLs. Whoever has the answer knows all that is in it; the seal keeps anybody from
making one up, and with it clicks for a strategy that showed nothing. It is of no user: who looks at
a list before logging in and clicks after it is two users to a caller (docs/adr/0022).
"""

import base64
import hmac
import secrets
import struct
import sys
import time
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.history.event import Shown

POPULARITY: Final = "popularity"
SIMILAR: Final = "similar"
STRATEGIES: Final = ("rerank", "generate", "fuse", "embedding", POPULARITY, SIMILAR)
"""What makes a list; an id has the place in this order, so that new ones come last."""
MAX_ITEMS: Final = 100
MAX_BYTES: Final = 2_048
"""Longer ones are none of ours."""
MAX_VARIANT_BYTES: Final = 64
_MAX_VERSION_BYTES: Final = 255
_NAME: Final = 12
_SEAL: Final = 16
_NAME_CHARACTERS: Final = _NAME * 4 // 3
_FORM: Final = 1
_HEAD: Final = struct.Struct("<BQBHBB")
"""Form, microseconds since 1970, strategy, start, bytes of variant and version."""
_SWAP: Final = sys.byteorder == "big"


class Listed(NamedTuple):
    """An item that an answer shows."""

    item_id: str
    score: float


@dataclass(frozen=True)
class Recommendation:
    """What an answer showed, as its id says."""

    name: str
    time: int
    """When it was made, in microseconds since 1970."""
    strategy: str
    start: int
    """The place of the first item in the whole list, from 0."""
    variant: str
    bundle_version: str
    checksums: Sequence[float]
    """Of the items' ids, in order, whole numbers. One list in a million has two items of one
    checksum: then the first is taken for both."""
    scores: Sequence[float]

    def shown(self, item_id: str) -> Shown | None:
        """How it showed an item; None where it did not."""
        try:
            place = self.checksums.index(_checksum(item_id))
        except ValueError:
            return None
        return Shown(
            self.name,
            self.strategy,
            self.start + place + 1,
            self.scores[place],
            self.variant,
            self.bundle_version,
        )


class RecommendationIds:
    """Makes ids and reads them.

    Args:
        key: secret; the same in all gateways that are to read each other's ids.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(
        self,
        items: Sequence[Listed],
        strategy: str,
        bundle_version: str,
        *,
        start: int = 0,
        variant: str = "",
    ) -> str:
        """The id of a new answer.

        Args:
            items: what it shows, of which the first 100 are held.
            strategy: one of `STRATEGIES`.
            bundle_version: of what made it; cut to 255 bytes.
            start: the place of the first item in the whole list, from 0.
            variant: of an experiment, at most 64 bytes.

        Raises:
            ValueError: the strategy or the variant is none.
        """
        named, version = variant.encode(), bundle_version.encode()[:_MAX_VERSION_BYTES]
        if len(named) > MAX_VARIANT_BYTES:
            raise ValueError(f"the variant {variant!r} is over {MAX_VARIANT_BYTES} bytes")
        held = items[:MAX_ITEMS]
        head = _HEAD.pack(
            _FORM, time.time_ns() // 1_000, STRATEGIES.index(strategy), start,
            len(named), len(version),
        )  # fmt: skip
        checksums = _bytes(array("I", [_checksum(item_id) for item_id, _ in held]))
        scores = _bytes(array("f", [score for _, score in held]))
        body = b"".join((head, named, version, checksums, scores))
        name = secrets.token_bytes(_NAME)
        sealed = name + self._seal(name + body) + body
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def read(self, recommendation_id: str) -> Recommendation | None:
        """What an id says; None for one that was not made with this key."""
        try:
            text = recommendation_id.encode("ascii")
            padded = text + b"=" * (-len(text) % 4)
            sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
        except ValueError:
            return None
        name, seal, body = sealed[:_NAME], sealed[_NAME : _NAME + _SEAL], sealed[_NAME + _SEAL :]
        if not hmac.compare_digest(seal, self._seal(name + body)) or body[:1] != bytes([_FORM]):
            return None
        return _opened(recommendation_id[:_NAME_CHARACTERS], body)

    def _seal(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:_SEAL]


def _opened(name: str, body: bytes) -> Recommendation | None:
    _, moment, strategy, start, variant, version = _HEAD.unpack_from(body)
    if strategy >= len(STRATEGIES):
        return None  # of a newer gateway
    middle = _HEAD.size + variant
    end = middle + version
    half = (len(body) - end) // 2
    return Recommendation(
        name,
        moment,
        STRATEGIES[strategy],
        start,
        body[_HEAD.size : middle].decode(),
        body[middle:end].decode(errors="ignore"),
        _array("I", body[end : end + half]),
        _array("f", body[end + half :]),
    )


def _checksum(item_id: str) -> int:
    return zlib.crc32(item_id.encode())


def _bytes(numbers: "array[int] | array[float]") -> bytes:
    if _SWAP:
        numbers.byteswap()
    return numbers.tobytes()


def _array(kind: str, data: bytes) -> Sequence[float]:
    numbers: array[float] = array(kind, data)
    if _SWAP:
        numbers.byteswap()
    return numbers
