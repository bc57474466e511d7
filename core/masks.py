"""What filters came to in one version of a catalog, remembered a bit an item."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
"""Marks of items, eight to a byte."""

MASK_BYTES: Final = 1 << 25
"""Of the masks of a version: some nine hundred of 300,000 items, or twenty-six of ten million."""


class MaskMemory:
    """Remembers masks, as many as there is room for; the latest used stay.

    Several threads may use it at once.

    Args:
        limit: bytes of all masks together.
    """

    def __init__(self, limit: int = MASK_BYTES) -> None:
        self._limit = limit
        self._masks: OrderedDict[Hashable, Bits] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0
        """Of what is remembered."""

    def get(self, key: Hashable) -> Bits | None:
        """What is remembered under a key."""
        with self._lock:
            if key not in self._masks:
                return None
            self._masks.move_to_end(key)
            return self._masks[key]

    def put(self, key: Hashable, mask: Bits) -> None:
        """Remembers a mask, which nobody may write to any more."""
        mask.flags.writeable = False
        with self._lock:
            if key not in self._masks:
                self.nbytes += mask.nbytes
            self._masks[key] = mask
            while self.nbytes > self._limit:
                _, oldest = self._masks.popitem(last=False)
                self.nbytes -= oldest.nbytes
