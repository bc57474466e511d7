"""Products of integers of eight bits: what the graphs that have them agree on."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = 127
ZERO_POINT: Final = np.uint8(128)
"""What zero is written as: VNNI multiplies unsigned activations by signed weights."""


def quantize_columns(
    weights: NDArray[np.floating],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds weights to integers.

    Args:
        weights: [in, out].

    Returns:
        The integers, [in, out], and the scales, [out]: their product is about the weights.
    """
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / LARGEST
    return np.round(weights / scales).astype(np.int8), scales.astype(np.float32)
