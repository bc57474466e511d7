"""The products of linear layers, in the precisions that are served.

The weights are nearly all of the model, and their products nearly all of its work, so a precision
is nothing but a way to write a product. Everything else, the residual stream, attention and the
search, stays in float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offline.int8 import LARGEST, ZERO_POINT, quantize_columns
from offline.onnx_graph import FLOAT, FLOAT16, OnnxGraphBuilder

Matrix = NDArray[np.float32]


class Linears(Protocol):
    """Writes the products of linear layers into a graph."""

    def product(self, g: OnnxGraphBuilder, rows: str, layer: "Linear") -> str:
        """Writes float32 [..., in] times weights [in, out], which is float32 [..., out]."""

    def rectified(self, g: OnnxGraphBuilder, rows: str, first: "Linear", second: "Linear") -> str:
        """Writes the feed-forward network `relu(rows · first) · second`."""


@dataclass(frozen=True)
class Linear:
    """A linear layer."""

    name: str
    """Equal names are equal weights."""
    weights: Matrix
    """[in, out]"""


class Float32:
    """Products in float32."""

    def product(self, g: OnnxGraphBuilder, rows: str, layer: Linear) -> str:
        """See `Linears`."""
        return g.matmul(rows, g.weight(layer.name, layer.weights))

    def rectified(self, g: OnnxGraphBuilder, rows: str, first: Linear, second: Linear) -> str:
        """See `Linears`."""
        return self.product(g, g.op("Relu", self.product(g, rows, first)), second)


class Float16(Float32):
    """Products in float16, for GPUs.

    T5's feed-forward output leaves float16's range in real checkpoints
    (https://github.com/huggingface/transformers/issues/9295), so that one product stays in float32,
    as it does in `transformers`.
    """

    def product(self, g: OnnxGraphBuilder, rows: str, layer: Linear) -> str:
        """See `Linears`."""
        if layer.name.endswith(".wo"):
            return super().product(g, rows, layer)
        half = g.weight(f"{layer.name}.float16", layer.weights.astype(np.float16))
        return g.cast(g.matmul(g.cast(rows, FLOAT16), half), FLOAT)


@dataclass(frozen=True)
class Int8:
    """Products of 8-bit integers, accumulated in 32 bits, for CPUs.

    Weights have a scale a column. Activations have one scale a layer, found by calibration, and not
    one a batch, as ONNX Runtime's dynamic quantization does it: so a row's product depends on
    nothing but the row, and an answer not on what it was batched with.
    """

    ranges: Mapping[str, float]
    """By the name of the layer: the largest absolute value that its input has on real prompts."""
    in_float32: frozenset[str] = frozenset()
    """The layers whose products would lose too much."""
    _quantized: dict[tuple[int, str, float], str] = field(default_factory=dict)

    def product(self, g: OnnxGraphBuilder, rows: str, layer: Linear) -> str:
        """See `Linears`."""
        if layer.name in self.in_float32:
            return Float32().product(g, rows, layer)
        scale = self.ranges[layer.name] / LARGEST
        return self._dequantized(g, self._quantize(g, rows, scale), scale, int(ZERO_POINT), layer)

    def rectified(self, g: OnnxGraphBuilder, rows: str, first: Linear, second: Linear) -> str:
        """See `Linears`.

        What is between the layers stays an integer: its zero is the least that can be written, so
        that what is negative saturates to it.
        """
        if {first.name, second.name} & self.in_float32:
            between = g.op("Relu", self.product(g, rows, first))
            return self.product(g, between, second)
        scale = self.ranges[first.name] / LARGEST
        weights, columns = self._weights(g, first)
        scale_between = self.ranges[second.name] / (2 * LARGEST + 1)
        between = g.op(
            "QLinearMatMul",
            self._quantize(g, rows, scale),
            g.real(scale),
            g.constant(np.array(ZERO_POINT)),
            weights,
            columns,
            g.constant(np.zeros(first.weights.shape[1], dtype=np.int8)),
            g.real(scale_between),
            g.constant(np.array(0, dtype=np.uint8)),
        )
        return self._dequantized(g, between, scale_between, 0, second)

    def _dequantized(
        self, g: OnnxGraphBuilder, rows: str, scale: float, zero: int, layer: Linear
    ) -> str:
        weights, columns = self._weights(g, layer)
        return g.op(
            "MatMulIntegerToFloat",
            rows,
            weights,
            g.real(scale),
            columns,
            g.constant(np.array(zero, dtype=np.uint8)),
            domain="com.microsoft",
        )

    def _weights(self, g: OnnxGraphBuilder, layer: Linear) -> tuple[str, str]:
        """The weights as integers, and the scales of their columns."""
        integers, columns = quantize_columns(layer.weights)
        return g.weight(f"{layer.name}.int8", integers), g.weight(f"{layer.name}.scale", columns)

    def _quantize(self, g: OnnxGraphBuilder, rows: str, scale: float) -> str:
        """Rows as integers; written once for all products that read them."""
        key = (id(g), rows, scale)
        if key not in self._quantized:
            zero = g.constant(np.array(ZERO_POINT))
            self._quantized[key] = g.op("QuantizeLinear", rows, g.real(scale), zero)
        return self._quantized[key]
