"""How fast the machine multiplies matrices, and how many multiplications a search takes."""

import statistics
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from core.manifest import Precision
from offline.generator.export.linear import Float32, Int8, Linear
from offline.onnx_graph import FLOAT, OnnxGraphBuilder
from services.generator.decoding.providers import Compute

ROWS, INNER, COLUMNS = 768, 512, 2048
_ROUNDS: Final = 30


def multiplications(
    shape: Mapping[str, Any], vocabulary: int, tokens: int, levels: int, beams: int, batch: int
) -> int:
    """Multiply-adds of one search: those of the linear layers, which are nearly all.

    Args:
        shape: `d_model`, `d_kv`, `d_ff`, `num_layers` and `num_heads` of a T5.
        vocabulary: tokens that the head tells apart.
        tokens: of each prompt.
        levels: of the codes.
        beams: of the search.
        batch: prompts.
    """
    model, inner = shape["d_model"], shape["d_kv"] * shape["num_heads"]
    feed_forward = 2 * model * shape["d_ff"]
    encoder = shape["num_layers"] * (4 * model * inner + feed_forward)
    cross = shape["num_layers"] * 2 * model * inner
    decoder = shape["num_layers"] * (6 * model * inner + feed_forward) + model * vocabulary
    rows = 1 + beams * (levels - 1)
    return int(batch * (tokens * (encoder + cross) + rows * decoder))


def gemm_rate(precision: Precision, compute: Compute) -> float:
    """Billions of operations a second of one large product, the way the graphs write it."""
    graph = OnnxGraphBuilder()
    rows = graph.input("rows", FLOAT, ["rows", INNER])
    weights = np.random.default_rng(0).standard_normal((INNER, COLUMNS)).astype(np.float32)
    linears = Int8({"gemm": 4.0}) if precision == "int8" else Float32()
    graph.output(
        linears.product(graph, rows, Linear("gemm", weights)), "y", FLOAT, ["rows", COLUMNS]
    )
    session = _session(graph, compute)
    feeds = {"rows": np.random.default_rng(1).standard_normal((ROWS, INNER)).astype(np.float32)}
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - started)
    return 2 * ROWS * INNER * COLUMNS / statistics.median(times) / 1e9


def _session(graph: OnnxGraphBuilder, compute: Compute) -> ort.InferenceSession:
    from onnx import numpy_helper

    weights = [numpy_helper.from_array(array, name) for name, array in graph.weights.items()]
    model = graph.model("gemm", weights)
    return ort.InferenceSession(
        model.SerializeToString(), compute.session_options(), providers=list(compute.providers)
    )
