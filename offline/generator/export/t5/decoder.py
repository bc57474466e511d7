"""How a T5 reads codes: rows attend to the encoded prompt, and to the rows that they continue."""

import numpy as np

from offline.generator.export.attention import MASKED, padding_bias
from offline.generator.export.backbone import Decoder, Past
from offline.generator.export.heads import Head, TrieInputs
from offline.generator.export.linear import Linears
from offline.generator.export.t5.layers import T5Layers, T5Weights
from offline.onnx_graph import OnnxGraphBuilder


class T5Decoder(Decoder):
    """T5's decoder, whose first row is a start token.

    Args:
        graph: to write into.
        model: the weights.
        linears: the precision.
        levels: the length of the codes.
        kind: what a token's score is made of; one of items takes `state` and `mass` too.

    Raises:
        ValueError: the model cannot tell so many positions apart.
    """

    def __init__(
        self,
        graph: OnnxGraphBuilder,
        model: T5Weights,
        linears: Linears,
        levels: int,
        kind: type[Head],
    ) -> None:
        self._layers = T5Layers(graph, model, linears)
        self._bias_by_distance = self._layers.decoder_position_bias
        self._levels = levels
        if levels > len(self._bias_by_distance):
            raise ValueError(
                f"codes have {levels} tokens, the model tells {len(self._bias_by_distance)} apart"
            )
        self._padding = padding_bias(graph)
        self._cross = self._layers.declare_cross()
        head = kind(self._layers, TrieInputs.declare(graph, levels))
        super().__init__(head, model.config, int(model.config.decoder_start_token_id))

    def step(self, token: str, ancestors: str, past: Past | None) -> tuple[str, Past]:
        """See `Decoder`."""
        g = self.graph
        earlier = () if past is None else past.row_counts
        row_counts = (*earlier, g.size(token, 1))
        bias = g.add(self._by_step(row_counts), g.unsqueeze(ancestors, 1))
        rows = self.head.rows(token, root=past is None)
        layers = None if past is None else past.layers
        states, layers = self._layers.decode(rows, bias, self._cross, self._padding, layers)
        return self.head.said(states), Past(layers, row_counts)

    def _by_step(self, row_counts: tuple[str, ...]) -> str:
        """[1, heads, 1, rows]: the bias of each row, by how many steps it lies back."""
        g = self.graph
        parts = []
        for back, count in zip(reversed(range(len(row_counts))), row_counts, strict=True):
            bias = self._bias_by_distance[back]
            column = g.constant(bias.reshape(1, -1, 1, 1).astype(np.float32))
            shape = g.op("Concat", g.ints(1, len(bias), 1), g.unsqueeze(count, 0), axis=0)
            parts.append(g.op("Expand", column, shape))
        return g.op("Concat", *parts, axis=3)

    def prefixes(self, token: str, depth: str, sees: str) -> str:
        """See `Decoder`."""
        bias = self._by_depth(depth, sees)
        rows = self.head.rows(token, root=True)
        states, _ = self._layers.decode(rows, bias, self._cross, self._padding)
        return self.head.said(states)

    def _by_depth(self, depth: str, sees: str) -> str:
        """[batch, heads, rows, rows]: by difference in depth; MASKED where a row must not look."""
        g = self.graph
        back = g.op("Sub", g.unsqueeze(depth, 2), g.unsqueeze(depth, 1))
        near = g.op("Clip", back, g.integer(0), g.integer(self._levels - 1))  # others are masked
        table = g.constant(self._bias_by_distance[: self._levels].astype(np.float32))
        bias = g.op("Transpose", g.op("Gather", table, near, axis=0), perm=[0, 3, 1, 2])
        return g.op("Where", g.unsqueeze(sees, 1), bias, g.real(MASKED))
