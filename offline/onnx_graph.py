"""Building an ONNX graph, one operator after the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 18
IR_VERSION: Final = 10

INT64: Final = TensorProto.INT64
INT32: Final = TensorProto.INT32
FLOAT: Final = TensorProto.FLOAT
FLOAT16: Final = TensorProto.FLOAT16
DOUBLE: Final = TensorProto.DOUBLE
BOOL: Final = TensorProto.BOOL

Dim = int | str


@dataclass
class OnnxGraphBuilder:
    """Records operators; values are passed around by name.

    Weights are named and kept apart: they are written to one file that several graphs share.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    constants: dict[bytes, onnx.TensorProto] = field(default_factory=dict)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)

    def live_nodes(self) -> list[onnx.NodeProto]:
        """The operators that an output depends on, in order."""
        needed = {output.name for output in self.outputs}
        live = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                live.append(node)
        return live[::-1]

    def model(self, name: str, initializers: Iterable[onnx.TensorProto] = ()) -> onnx.ModelProto:
        """What was recorded, as a model of its own.

        Args:
            name: of the graph.
            initializers: the weights, and where they are.
        """
        constants = [*self.constants.values(), *initializers]
        graph = helper.make_graph(self.live_nodes(), name, self.inputs, self.outputs, constants)
        return helper.make_model(
            graph,
            ir_version=IR_VERSION,
            producer_name="tandem",
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        )

    def input(self, name: str, kind: int, shape: Sequence[Dim]) -> str:
        """Declares an input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, value: str, name: str, kind: int, shape: Sequence[Dim]) -> None:
        """Declares a value as an output of the graph."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def expose(self, value: str, name: str, kind: int, shape: Sequence[Dim]) -> None:
        """As `output`, without a copy: the value is called so from now on, within the graph too."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == value else each for each in names]
        self.outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Records an operator with one output and returns the output's name."""
        (output,) = self.ops(kind, *inputs, outputs=1, domain=domain, **attributes)
        return output

    def ops(
        self,
        kind: str,
        *inputs: str,
        outputs: int,
        unused: Sequence[int] = (),
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Records an operator with several outputs and returns the names of those that are used."""
        stem = f"{kind}_{len(self.nodes)}"
        names = ["" if i in unused else f"{stem}_{i}" for i in range(outputs)]
        node = helper.make_node(kind, list(inputs), names, domain=domain, **attributes)
        self.nodes.append(node)
        return [name for name in names if name]

    def ints(self, *values: int) -> str:
        """A constant int64 vector, as shapes and axes are given."""
        return self.constant(np.array(values, dtype=np.int64))

    def integer(self, value: int) -> str:
        """A constant int64 scalar."""
        return self.constant(np.array(value, dtype=np.int64))

    def real(self, value: float) -> str:
        """A constant float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32))

    def constant(self, array: NDArray[Any]) -> str:
        """A constant in the graph itself; equal ones are stored once."""
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """A model weight, stored once under its name."""
        self.weights.setdefault(name, array)
        return name

    def add(self, left: str, right: str) -> str:
        """left + right, broadcast."""
        return self.op("Add", left, right)

    def mul(self, left: str, right: str) -> str:
        """left · right, element by element, broadcast."""
        return self.op("Mul", left, right)

    def matmul(self, left: str, right: str) -> str:
        """The matrix product."""
        return self.op("MatMul", left, right)

    def reshape(self, value: str, *shape: int | str) -> str:
        """Reshapes; 0 keeps a dimension, -1 infers it, a string is a scalar value of the graph."""
        if all(isinstance(size, int) for size in shape):
            return self.op("Reshape", value, self.ints(*(int(size) for size in shape)))
        parts = [
            self.ints(size) if isinstance(size, int) else self.unsqueeze(size, 0) for size in shape
        ]
        return self.op("Reshape", value, self.op("Concat", *parts, axis=0))

    def unsqueeze(self, value: str, *axes: int) -> str:
        """Inserts dimensions of size 1."""
        return self.op("Unsqueeze", value, self.ints(*axes))

    def size(self, value: str, axis: int) -> str:
        """The size of one dimension, as an int64 scalar."""
        return self.op("Gather", self.op("Shape", value), self.integer(axis), axis=0)

    def range(self, end: str) -> str:
        """0, 1, … end - 1 for an int64 scalar."""
        return self.op("Range", self.integer(0), end, self.integer(1))

    def cast(self, value: str, kind: int) -> str:
        """Converts the element type."""
        return self.op("Cast", value, to=kind)
