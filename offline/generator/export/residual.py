"""The residual stream, and its normalization by the root mean square: one fused operator."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.onnx_graph import OnnxGraphBuilder


@dataclass
class Stream:
    """The residual stream, and what is yet to be added to it."""

    value: str
    update: str | None = None


def normalize(
    g: OnnxGraphBuilder, stream: Stream, name: str, weight: NDArray[np.float32], epsilon: float
) -> tuple[str, Stream]:
    """Adds the pending update, and normalizes.

    Args:
        g: the graph to write into.
        stream: [batch, rows, channels].
        name: of the normalization.
        weight: [channels] its scale.
        epsilon: what is added to the mean square.

    Returns:
        The normalized rows, and the stream without a pending update.
    """
    scale = g.weight(name, weight)
    if stream.update is None:
        normed = g.op("SimplifiedLayerNormalization", stream.value, scale, axis=-1, epsilon=epsilon)
        return normed, stream
    normed, total = g.ops(
        "SkipSimplifiedLayerNormalization",
        stream.value,
        stream.update,
        scale,
        outputs=4,
        unused=(1, 2),  # the mean and the variance
        domain="com.microsoft",
        epsilon=epsilon,
    )
    return normed, Stream(total)
