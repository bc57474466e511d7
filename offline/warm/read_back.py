"""Reading a model's parameters back out of the graphs that it was exported as.

An export transposes, slices and looks up; it computes next to nothing. So the same export of a
model whose parameters are running numbers shows where each of them went, and there the graphs of
the trained model have its value. A bundle need hold nothing beside what it serves, and there is no
second description of its graphs.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from core.errors import BundleError

FIRST: Final = 1 << 20
"""Where the numbering begins: above all that graphs hold beside parameters."""


def numbered(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float64]]:
    """Arrays of running numbers, all different, the small arrays first.

    An export may turn small arrays, such as the biases of positions, into float32, which tells the
    first 16 million numbers apart.

    Args:
        shapes: by name.
    """
    arrays, start = {}, FIRST
    for name, shape in sorted(shapes.items(), key=lambda named: np.prod(named[1])):
        arrays[name] = np.arange(start, start + int(np.prod(shape)), dtype=float).reshape(shape)
        start += arrays[name].size
    return arrays


def read_back(
    numbers: Mapping[str, NDArray[np.float64]],
    exported: Sequence[onnx.ModelProto],
    files: Sequence[Path],
) -> dict[str, NDArray[np.float32]]:
    """The parameters in graphs; NaN where these have none, as of a bias that nothing looks up.

    Args:
        numbers: what `numbered` gave.
        exported: the graphs of a model that has these as its parameters.
        files: the same graphs of the model that was trained.

    Raises:
        BundleError: a file is of a model of another shape, or was exported in another way.
    """
    flat = np.full(sum(array.size for array in numbers.values()), np.nan, np.float32)
    for graph, file in zip(exported, files, strict=True):
        for places, values in _pairs(graph, file):
            known = places >= FIRST
            flat[places[known].astype(np.int64) - FIRST] = values[known]
    return {name: flat[array.astype(np.int64) - FIRST] for name, array in numbers.items()}


def scalar_at(mark: float, exported: onnx.ModelProto, file: Path) -> float:
    """What the graph of the trained model has where the other has a certain scalar.

    Raises:
        BundleError: the file is of a model of another shape, or was exported in another way.
    """
    for places, values in _pairs(exported, file):
        if places.shape == () and places == mark:
            return float(values)
    raise _other_export(file)


def _pairs(graph: onnx.ModelProto, file: Path) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """What stands at the same place of two graphs: in the first, and in the file.

    A place is an operator's input: the names of constants differ where equal ones are stored once.
    """
    # ONNX itself refuses weights in a file that has two names, as those of a bundle have.
    stored = onnx.load(file, load_external_data=False)
    ours, theirs = (
        {tensor.name: _array(tensor, file.parent) for tensor in model.graph.initializer}
        for model in (graph, stored)
    )
    if [n.op_type for n in graph.graph.node] != [n.op_type for n in stored.graph.node]:
        raise _other_export(file)
    for one, other in zip(graph.graph.node, stored.graph.node, strict=True):
        for place, value in zip(one.input, other.input, strict=True):
            if place in ours and ours[place].dtype.kind == "f":
                if value not in theirs or ours[place].shape != theirs[value].shape:
                    raise _other_export(file)
                yield ours[place], theirs[value]


def _array(tensor: onnx.TensorProto, directory: Path) -> NDArray[Any]:
    """A tensor's values, which may stand in a file beside the graph."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    return np.memmap(
        directory / Path(place["location"]).name,
        dtype=onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type),
        mode="r",
        offset=int(place["offset"]),
        shape=tuple(tensor.dims),
    )


def _other_export(file: Path) -> BundleError:
    return BundleError(
        f"{file} is of a model of another shape, or was exported by another Tandem: "
        "build without --warm-from"
    )
