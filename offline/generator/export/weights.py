"""Saving graphs that share one file of weights.

ONNX lets an initializer point into a file beside the graph. Both graphs of a generator point into
the same one, so the bundle holds each weight once and the operating system maps it once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from core.bundle import sha256
from offline.onnx_graph import OnnxGraphBuilder

_ALIGNMENT: Final = 4096  # a page: mapped weights start where the hardware likes it


def save_graphs(
    directory: Path,
    weights_file: str,
    graphs: Mapping[str, OnnxGraphBuilder],
    metadata: Mapping[str, str],
) -> None:
    """Writes the graphs, by file name, and one file with all their weights into a directory.

    Each graph says which weights it belongs to, as `weights_sha256`.

    Args:
        directory: where to.
        weights_file: the name of the file of weights.
        graphs: file name → graph.
        metadata: what each graph says about itself to whoever loads it.
    """
    offsets: dict[str, tuple[int, int]] = {}
    with (directory / weights_file).open("wb") as out:
        for graph in graphs.values():
            for name, array in graph.weights.items():
                if name not in offsets:
                    out.seek(-out.tell() % _ALIGNMENT, 1)
                    data = np.ascontiguousarray(array).tobytes()
                    offsets[name] = (out.tell(), len(data))
                    out.write(data)
    facts = {**metadata, "weights_sha256": sha256(directory / weights_file)}
    for file, graph in graphs.items():
        initializers = [
            _external(name, array, weights_file, *offsets[name])
            for name, array in graph.weights.items()
        ]
        model = graph.model(Path(file).stem, initializers)
        helper.set_model_props(model, facts)
        onnx.save(model, str(directory / file))


def _external(
    name: str, array: NDArray[Any], location: str, offset: int, length: int
) -> TensorProto:
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
