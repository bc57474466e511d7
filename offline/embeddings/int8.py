"""The text encoder in 8-bit products, where that keeps the ranking.

As in the generator (`offline/generator/export/linear.py`): weights have a scale a column, and
activations a fixed one, found by calibration, so that a text's vector does not depend on what it
was batched with. Language models have a few input channels that are far larger than the others;
part of their size is moved into the weights (G. Xiao et al., "SmoothQuant", ICML 2023). The second
product of a feed-forward network, which suffers most, stays in float32.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from offline.embeddings.embed import FloatArray
from offline.embeddings.export import GRAPH
from offline.embeddings.model import TextEmbedder
from offline.int8 import LARGEST, ZERO_POINT, quantize_columns

MIN_RECALL: Final = 0.95
"""Of the 10 nearest items by the vectors of float32, the share that has to be found."""
SMOOTHING: Final = 0.75
"""How much of a channel's size moves into the weights: all at 1. By trial on all-MiniLM-L6-v2."""

_CALIBRATION: Final = 96
_QUERIES: Final = 256
_AT_ONCE: Final = 16


def quantize_text_encoder(
    embedder: TextEmbedder, directory: Path, texts: Sequence[str], vectors: FloatArray
) -> float | None:
    """Replaces `text_encoder.onnx` by one of 8-bit products, if that finds what it found.

    Args:
        embedder: whose graph it is.
        directory: where the graph is.
        texts: the catalog's.
        vectors: of the texts, float32 [texts, dimension].

    Returns:
        The recall of the 10 nearest items, with catalog texts as queries; the graph is replaced
        where it is at least `MIN_RECALL`. None where there is nothing to quantize.
    """
    path = directory / GRAPH
    if path.with_name(f"{GRAPH}.data").exists():
        return None
    graph = onnx.load(path)
    drawn = np.random.default_rng(0).permutation(len(texts))
    calibration = list(_inputs(embedder, [texts[i] for i in drawn[:_CALIBRATION]]))
    products = _products(graph.graph)
    if not products:
        return None
    quantized = _quantize(graph, products, _peaks(graph, products, calibration))
    # The last of the drawn, so that most were not calibrated with.
    asked = drawn[-_QUERIES:]
    session = ort.InferenceSession(quantized.SerializeToString())
    found = [
        session.run(["vectors"], inputs)[0]
        for inputs in _inputs(embedder, [texts[i] for i in asked])
    ]
    recall = _recall(np.concatenate(found), vectors[asked], vectors)
    if recall >= MIN_RECALL:
        onnx.save(quantized, path)
    return recall


def _inputs(embedder: TextEmbedder, texts: Sequence[str]) -> Iterator[dict[str, NDArray[np.int64]]]:
    for start in range(0, len(texts), _AT_ONCE):
        ids, mask = embedder.tokenize(texts[start : start + _AT_ONCE])
        yield {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}


def _products(graph: onnx.GraphProto) -> dict[str, FloatArray]:
    """The weights [in, out] of the products to quantize, by name."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    named = {
        node.input[1]: numpy_helper.to_array(weights[node.input[1]])
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights
    }
    return {
        name: array
        for name, array in named.items()
        if array.ndim == 2 and array.shape[0] <= array.shape[1]
    }


def _peaks(
    model: onnx.ModelProto,
    products: Mapping[str, FloatArray],
    calibration: Sequence[Mapping[str, NDArray[np.int64]]],
) -> dict[str, FloatArray]:
    """The largest absolute value of each channel of what the products read, [in]."""
    rows = sorted({node.input[0] for node in model.graph.node if _is_product(node, products)})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in rows
    )
    session = ort.InferenceSession(watched.SerializeToString())
    peaks: dict[str, FloatArray] = {}
    for inputs in calibration:
        read = inputs["attention_mask"].astype(np.bool_)
        for name, values in zip(rows, session.run(rows, dict(inputs)), strict=True):
            # After pooling there is one row a text, and no padding.
            peak = np.abs(values[read] if values.ndim == 3 else values).max(axis=0)
            peaks[name] = np.maximum(peak, peaks.get(name, 0.0))
    return peaks


def _is_product(node: onnx.NodeProto, products: Mapping[str, FloatArray]) -> bool:
    return node.op_type == "MatMul" and node.input[1] in products


def _quantize(
    model: onnx.ModelProto, products: Mapping[str, FloatArray], peaks: Mapping[str, FloatArray]
) -> onnx.ModelProto:
    """The same model with 8-bit products."""
    scales = {rows: _scales(model.graph, rows, products, peak) for rows, peak in peaks.items()}
    nodes: list[onnx.NodeProto] = []
    tensors = {
        tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in products
    }

    def constant(name: str, value: Any) -> str:
        tensors[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    one, zero = constant("int8.one", np.float32(1)), constant("int8.zero", ZERO_POINT)
    written: set[str] = set()
    for node in model.graph.node:
        if not _is_product(node, products):
            nodes.append(node)
            continue
        rows, name = node.input
        integers, columns = quantize_columns(products[name] * scales[rows][:, None])
        if rows not in written:
            written.add(rows)
            # QuantizeLinear itself is many times slower with a scale a channel.
            inverse = constant(f"{rows}.inverse", (1.0 / scales[rows]).astype(np.float32))
            nodes.append(helper.make_node("Mul", [rows, inverse], [f"{rows}.scaled"]))
            scaled = [f"{rows}.scaled", one, zero]
            nodes.append(helper.make_node("QuantizeLinear", scaled, [f"{rows}.int8"]))
        weights = [constant(f"{name}.int8", integers), constant(f"{name}.scale", columns)]
        inputs = [f"{rows}.int8", weights[0], one, weights[1], zero]
        nodes.append(
            helper.make_node(
                "MatMulIntegerToFloat", inputs, list(node.output), domain="com.microsoft"
            )
        )
    graph = helper.make_graph(
        nodes, model.graph.name, model.graph.input, model.graph.output, list(tensors.values())
    )
    opsets = [*model.opset_import, helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)


def _scales(
    graph: onnx.GraphProto, rows: str, products: Mapping[str, FloatArray], peak: FloatArray
) -> FloatArray:
    """What each channel is divided by, so that none exceeds `LARGEST`. Shape [in]."""
    readers = [n.input[1] for n in graph.node if _is_product(n, products) and n.input[0] == rows]
    weight = np.max([np.abs(products[name]).max(axis=1) for name in readers], axis=0)
    shared = np.maximum(peak, 1e-6) ** SMOOTHING / np.maximum(weight, 1e-6) ** (1 - SMOOTHING)
    scales: FloatArray = (shared * ((peak / shared).max() / LARGEST)).astype(np.float32)
    return scales


def _recall(found: FloatArray, exact: FloatArray, vectors: FloatArray, count: int = 10) -> float:
    """The share of the nearest items of `exact` that are among the nearest of `found`."""
    count = min(count, len(vectors))
    nearest = [
        np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :count]
        for queries in (found, exact)
    ]
    hits = [len(np.intersect1d(a, b)) for a, b in zip(*nearest, strict=True)]
    return float(np.mean(hits)) / count
