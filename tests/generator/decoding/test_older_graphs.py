"""Bundles whose search finds one list at a time and proves nothing, as they were before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from offline.generator.export import files
from offline.generator.export.search import search_graph
from offline.onnx_graph import FLOAT, INT64, OnnxGraphBuilder
from services.generator.decoding.engine import Generation, RankingQuery
from tests.generator.decoding.test_rows import NONE, random_context, rows_of
from tests.generator.made_up import MadeUp, write_made_up

LISTS = {"alive_row": "alive_rows", "node": "nodes", "score": "scores"}


def older(*arguments: Any, **options: Any) -> OnnxGraphBuilder:
    """The search with the inputs and outputs that it had: a list a query."""
    graph = search_graph(*arguments, **options)
    for node in graph.nodes:
        node.input[:] = [LISTS.get(name, name) for name in node.input]
        node.output[:] = [LISTS.get(name, name) for name in node.output]
    graph.inputs[:] = [v for v in graph.inputs if v.name not in {"alive_row", "results"}]
    graph.outputs.clear()
    made, graph.nodes = graph.nodes, []
    lists = graph.unsqueeze("alive_row", 1)
    graph.nodes += [
        helper.make_node("Identity", [lists], ["alive_rows"]),
        helper.make_node("Identity", ["beams"], ["results"]),
        *made,
    ]
    graph.input("alive_row", INT64, ["batch"])
    one = graph.ints(1)
    graph.output(graph.op("Squeeze", "nodes", one), "node", INT64, ["batch", "found"])
    graph.output(graph.op("Squeeze", "scores", one), "score", FLOAT, ["batch", "found"])
    return graph


@pytest.fixture
def before(tmp_path: Path, made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    monkeypatch.setattr(files, "search_graph", older)
    return write_made_up(tmp_path, list(made_up.engine.snapshot.code_texts))


def test_an_older_bundle_generates_without_proofs(before: MadeUp, made_up: MadeUp) -> None:
    context = random_context(np.random.default_rng(0), made_up.items)
    queries = [RankingQuery(context, Generation(n, None, NONE)) for n in (5, 12)]
    for old, new in zip(
        before.engine.generate(queries), made_up.engine.generate(queries), strict=True
    ):
        assert old.items.tolist() == new.items.tolist()
        assert (old.missed, old.exact, old.proved) == (None, False, 0)


@pytest.mark.parametrize("apart", [False, True])
def test_an_older_bundle_makes_rows(before: MadeUp, made_up: MadeUp, apart: bool) -> None:
    rng = np.random.default_rng(1)
    context = random_context(rng, made_up.items)
    rows = [Generation(6, rng.random(made_up.items) < 0.5, NONE) for _ in range(3)]
    found = rows_of(before, context, rows, apart=apart)
    assert [len(row) for row in found] == [6, 6, 6]
    if not apart:
        assert found == rows_of(made_up, context, rows, apart=False)
