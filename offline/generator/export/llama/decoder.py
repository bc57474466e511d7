"""How a decoder-only model reads codes: rows attend to the prompt, and to those they continue.

The prompt says by itself what comes first, so the empty beginning of a code needs no row: it is
`first`, which the prefill returned. All others stand behind the prompt, at its length plus their
level.
"""

from collections.abc import Sequence

import numpy as np

from offline.generator.export.attention import MASKED, KeysValues, padding_bias
from offline.generator.export.backbone import Decoder, Past
from offline.generator.export.heads import TokenHead, TrieInputs
from offline.generator.export.linear import Linears
from offline.generator.export.llama.layers import LlamaLayers, LlamaWeights
from offline.onnx_graph import FLOAT, OnnxGraphBuilder


class LlamaDecoder(Decoder):
    """Goes on from a prefill.

    Args:
        graph: to write into.
        model: the weights.
        linears: the precision.
        levels: the length of the codes.
    """

    def __init__(
        self, graph: OnnxGraphBuilder, model: LlamaWeights, linears: Linears, levels: int
    ) -> None:
        self._layers = LlamaLayers(graph, model, linears)
        self._levels = levels
        self._padding = padding_bias(graph)
        shape = self._layers.cache_shape
        self._prompt = [
            KeysValues(
                graph.input(f"keys_{layer}", FLOAT, shape),
                graph.input(f"values_{layer}", FLOAT, shape),
            )
            for layer in range(model.layers)
        ]
        first = graph.input("first", FLOAT, ["batch", int(model.config.vocab_size)])
        self._first = graph.unsqueeze(first, 1)
        length = graph.op("ReduceSum", "attention_mask", graph.ints(1), keepdims=1)
        self._last = graph.op("Sub", length, graph.integer(1))
        head = TokenHead(self._layers, TrieInputs.declare(graph, levels))
        super().__init__(head, model.config, start_token=0)  # that nobody reads

    def step(self, token: str, ancestors: str, past: Past | None) -> tuple[str, Past]:
        """See `Decoder`."""
        if past is None:
            return self._first, Past(self._prompt, ())
        g = self.graph
        level = len(past.row_counts) + 1
        depth = g.op("Expand", g.integer(level), g.op("Shape", token))
        own = self._from_second(ancestors, 2)  # the root is no row
        said, extended = self._read(token, depth, own, past.layers)
        return said, Past(extended, (*past.row_counts, g.size(token, 1)))

    def prefixes(self, token: str, depth: str, sees: str) -> str:
        """See `Decoder`."""
        if self._levels == 1:
            return self._first
        g = self.graph
        token, depth = (self._from_second(array, 1) for array in (token, depth))
        sees = self._from_second(self._from_second(sees, 1), 2)
        bias = g.op("Where", sees, g.real(0.0), g.real(MASKED))
        said, _ = self._read(token, depth, bias, self._prompt)
        return g.op("Concat", self._first, said, axis=1)

    def _from_second(self, array: str, axis: int) -> str:
        g = self.graph
        return g.op("Slice", array, g.ints(1), g.ints(np.iinfo(np.int64).max), g.ints(axis))

    def _read(
        self, token: str, depth: str, bias: str, past: Sequence[KeysValues]
    ) -> tuple[str, list[KeysValues]]:
        """Reads rows that are so many tokens behind the prompt, and what follows each."""
        g = self.graph
        to_prompt = g.op("Concat", g.op("Shape", token), g.ints(1), axis=0)
        to_prompt = g.unsqueeze(g.op("Expand", g.real(0.0), to_prompt), 1)
        visible = g.op("Concat", g.add(self._padding, to_prompt), g.unsqueeze(bias, 1), axis=3)
        position = g.add(self._last, depth)
        rows = self.head.rows(token, root=False)
        states, extended = self._layers.read(rows, position, visible, past)
        return self.head.said(states), extended
