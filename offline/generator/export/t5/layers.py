"""T5's layers as ONNX operators (Raffel et al., https://arxiv.org/abs/1910.10683).

The decoder here reads a set of tokens at once: the beams of a search, or the prefixes of a
shortlist. Within a request they are rows of one matrix, so attention to the prompt needs its keys
and values once per request, however many rows there are; which rows see which earlier ones is a
bias that the caller gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from offline.generator.export.attention import MASKED, KeysValues, attend, padding_bias
from offline.generator.export.backbone import Activation, Matrix, Weights, arrays_of
from offline.generator.export.linear import Linears
from offline.generator.export.residual import Stream, normalize
from offline.onnx_graph import FLOAT, INT64, Dim, OnnxGraphBuilder

WORDS: Final = "word_head"
"""The layer that speaks about words, where `lm_head` speaks about the tokens of codes."""


@dataclass(frozen=True)
class T5Weights(Weights):
    """The weights of a T5."""

    first_code_token: int = 0
    """The first token that `lm_head` speaks about: the vocabulary, or its end, where the codes'
    tokens stand."""

    @classmethod
    def of(cls, model: T5ForConditionalGeneration) -> "T5Weights":
        """Takes the weights out of a model."""
        return cls(model.config, arrays_of(model))

    def activations(self) -> Iterator[Activation]:
        """See `Weights`."""
        decoders = range(int(self.config.num_decoder_layers))
        for stack, layers in (
            ("encoder", range(int(self.config.num_layers))),
            ("decoder", decoders),
        ):
            for layer in layers:
                block = f"{stack}.block.{layer}.layer"
                own = f"{block}.0.SelfAttention"
                yield Activation(f"{block}.0.layer_norm", [f"{own}.{part}" for part in "qkv"])
                yield Activation(f"{own}.v", [f"{own}.o"])
                if stack == "decoder":
                    cross = f"{block}.1.EncDecAttention"
                    yield Activation(f"{block}.1.layer_norm", [f"{cross}.q"])
                    yield Activation(f"{cross}.v", [f"{cross}.o"])
                yield from self._feed_forward(f"{block}.{2 if stack == 'decoder' else 1}")
        cross_readers = [
            f"decoder.block.{layer}.layer.1.EncDecAttention.{part}"
            for layer in decoders
            for part in "kv"
        ]
        yield Activation("encoder.final_layer_norm", cross_readers)
        heads = [head for head in ("lm_head", WORDS) if f"{head}.weight" in self.arrays]
        yield Activation("decoder.final_layer_norm", heads)

    def _feed_forward(self, block: str) -> Iterator[Activation]:
        dense = f"{block}.DenseReluDense"
        if self.config.is_gated_act:  # a gate times a linear layer: the latter is divided
            yield Activation(f"{block}.layer_norm", [f"{dense}.wi_0", f"{dense}.wi_1"])
            yield Activation(f"{dense}.wi_1", [f"{dense}.wo"])
        else:  # ReLU commutes with positive factors
            yield Activation(f"{block}.layer_norm", [f"{dense}.wi"])
            yield Activation(f"{dense}.wi", [f"{dense}.wo"])


class T5Layers:
    """Writes the layers of one model into a graph."""

    def __init__(self, graph: OnnxGraphBuilder, model: T5Weights, linears: Linears) -> None:
        self.graph = graph
        self.model = model
        self.config = model.config
        self.heads = int(self.config.num_heads)
        self.width = int(self.config.d_kv)
        self.decoder_layers = int(self.config.num_decoder_layers)
        self.cross_shape: tuple[Dim, ...] = ("batch", self.heads, "tokens", self.width)
        self.first_code_token = model.first_code_token
        self._linears = linears

    # The encoder

    def encode(self, max_tokens: int) -> list[KeysValues]:
        """Reads the prompt and returns, for each decoder layer, what it attends to.

        Declares the inputs `input_ids` and `attention_mask`, int64 [batch, tokens].
        """
        g = self.graph
        ids = g.input("input_ids", INT64, ["batch", "tokens"])
        padding = padding_bias(g)
        bias = self._position_bias(g.size(ids, 1), self._bidirectional(max_tokens))
        return self.cross(self.encode_rows(self.embed(ids), g.add(bias, padding)))

    def encode_rows(self, rows: str, bias: str) -> str:
        """The encoder's states, [batch, positions, d_model].

        Args:
            rows: [batch, positions, d_model] what stands at each position.
            bias: [batch or 1, heads, positions, positions] position bias and visibility.
        """
        stream = Stream(rows)
        for layer in range(int(self.config.num_layers)):
            name = f"encoder.block.{layer}.layer"
            normed, stream = self._norm(stream, f"{name}.0.layer_norm")
            query, keys, values = self._project(normed, f"{name}.0.SelfAttention")
            attended = KeysValues(keys, values)
            stream.update = self._attend(query, attended, bias, f"{name}.0.SelfAttention")
            normed, stream = self._norm(stream, f"{name}.1.layer_norm")
            stream.update = self._feed_forward(normed, f"{name}.1.DenseReluDense")
        encoded, _ = self._norm(stream, "encoder.final_layer_norm")
        return encoded

    def cross(self, encoded: str) -> list[KeysValues]:
        """What each decoder layer attends to."""
        return [
            KeysValues(*(self._heads_of(encoded, layer, part) for part in ("k", "v")))
            for layer in range(self.decoder_layers)
        ]

    def embed(self, tokens: str) -> str:
        """Token ids [...] to vectors [..., d_model]."""
        table = self.graph.weight("shared.weight", self.model.arrays["shared.weight"])
        return self.graph.op("Gather", table, tokens, axis=0)

    def _heads_of(self, encoded: str, layer: int, part: str) -> str:
        """Keys or values of attention to the prompt, [batch, heads, tokens, width]."""
        g = self.graph
        product = self._product(encoded, f"decoder.block.{layer}.layer.1.EncDecAttention.{part}")
        split = g.reshape(product, 0, 0, self.heads, self.width)
        return g.op("Transpose", split, perm=[0, 2, 1, 3])

    def causal_bias(self, length: str, max_tokens: int) -> str:
        """[1, heads, positions, positions]: by distance; MASKED for what lies ahead."""
        back = torch.arange(max_tokens - 1, -1, -1)
        table = np.full((2 * max_tokens - 1, self.heads), MASKED, np.float32)
        table[:max_tokens] = self._buckets("encoder", -back, bidirectional=False)
        return self._position_bias(length, table)

    def bias_back(self, positions: int) -> Matrix:
        """[positions, heads] the decoder's bias of attending 0, 1, 2, … tokens back."""
        return self._buckets("decoder", -torch.arange(positions), bidirectional=False)

    def _bidirectional(self, max_tokens: int) -> Matrix:
        """[2·max - 1, heads] the bias by distance, from furthest back to furthest ahead."""
        distance = torch.arange(-(max_tokens - 1), max_tokens)
        return self._buckets("encoder", distance, bidirectional=True)

    def _buckets(self, stack: str, distance: torch.Tensor, *, bidirectional: bool) -> Matrix:
        """The learned bias of each distance, [distances, heads]."""
        bucket: Any = T5Attention._relative_position_bucket  # untyped
        buckets = bucket(
            distance,
            bidirectional=bidirectional,
            num_buckets=self.config.relative_attention_num_buckets,
            max_distance=self.config.relative_attention_max_distance,
        )
        table: Matrix = self.model.arrays[_BIAS.format(stack)][buckets.numpy()]
        return table

    def _position_bias(self, length: str, table: Matrix) -> str:
        """[1, heads, positions, positions]: by distance, from a table of [2·max - 1, heads]."""
        g = self.graph
        positions = g.range(length)
        difference = g.op("Sub", g.unsqueeze(positions, 0), g.unsqueeze(positions, 1))
        index = g.add(difference, g.integer(len(table) // 2))
        name = g.weight("encoder.position_bias", table)
        bias = g.op("Transpose", g.op("Gather", name, index, axis=0), perm=[2, 0, 1])
        return g.unsqueeze(bias, 0)

    # The decoder

    @cached_property
    def decoder_position_bias(self) -> Matrix:
        """[max code length, heads] the bias of attending 0, 1, 2, … tokens back.

        T5 gives each of the nearest distances a bucket of its own, so this is its table's head.
        """
        exact = self.config.relative_attention_num_buckets // 2
        return self.model.arrays[_BIAS.format("decoder")][:exact]

    def declare_cross(self) -> list[KeysValues]:
        """Declares what `encode` returned as inputs: `keys_<layer>` and `values_<layer>`."""
        return [
            KeysValues(
                self.graph.input(f"keys_{layer}", FLOAT, self.cross_shape),
                self.graph.input(f"values_{layer}", FLOAT, self.cross_shape),
            )
            for layer in range(self.decoder_layers)
        ]

    def decode(
        self,
        rows: str,
        bias: str,
        cross: Sequence[KeysValues],
        padding: str,
        past: Sequence[KeysValues] | None = None,
        *,
        by_head: bool = False,
    ) -> tuple[str, list[KeysValues]]:
        """Reads rows and returns what the decoder makes of each.

        Args:
            rows: [batch, rows, d_model] the embedded tokens.
            bias: [batch, heads, rows, past rows + rows] position bias and visibility.
            cross: what `encode` returned.
            padding: what `padding_bias` returned.
            past: each layer's keys and values, [batch, past rows, inner], of earlier calls.
            by_head: whether `past` is [batch, heads, past rows, width] instead; for one row at a
                time, which costs nothing to write so, and spares attention the transposition.

        Returns:
            Normalized states [batch, rows, d_model], and `past` with these rows appended.
        """
        g = self.graph
        stream = Stream(rows)
        one_row = g.op("Concat", g.op("Shape", rows, start=0, end=2), g.ints(1), axis=0)
        padding = g.add(padding, g.unsqueeze(g.op("Expand", g.real(0.0), one_row), 1))
        extended: list[KeysValues] = []
        for layer in range(self.decoder_layers):
            name = f"decoder.block.{layer}.layer"
            normed, stream = self._norm(stream, f"{name}.0.layer_norm")
            query, keys, values = self._project(normed, f"{name}.0.SelfAttention")
            if by_head:
                keys, values = (g.reshape(part, 0, self.heads, 1, -1) for part in (keys, values))
            if past is not None:
                axis = 2 if by_head else 1
                keys = g.op("Concat", past[layer].keys, keys, axis=axis)
                values = g.op("Concat", past[layer].values, values, axis=axis)
            extended.append(KeysValues(keys, values))
            stream.update = self._attend(query, extended[-1], bias, f"{name}.0.SelfAttention")
            normed, stream = self._norm(stream, f"{name}.1.layer_norm")
            query = self._product(normed, f"{name}.1.EncDecAttention.q")
            stream.update = self._attend(query, cross[layer], padding, f"{name}.1.EncDecAttention")
            normed, stream = self._norm(stream, f"{name}.2.layer_norm")
            stream.update = self._feed_forward(normed, f"{name}.2.DenseReluDense")
        scale = self.config.d_model**-0.5 if self.config.scale_decoder_outputs else 1.0
        normed, _ = self._norm(stream, "decoder.final_layer_norm", scale)
        return normed, extended

    def logits(self, normed: str) -> str:
        """What is said about each token of the head, [batch, rows, tokens]."""
        return self._product(normed, "lm_head")

    # What both are made of

    def _norm(self, stream: Stream, name: str, scale: float = 1.0) -> tuple[str, Stream]:
        """Adds the pending update, and normalizes."""
        weight = self.model.arrays[f"{name}.weight"] * np.float32(scale)
        return normalize(self.graph, stream, name, weight, float(self.config.layer_norm_epsilon))

    def _project(self, normed: str, name: str) -> list[str]:
        """Query, keys and values of self-attention, each [batch, rows, inner]."""
        return [self._product(normed, f"{name}.{part}") for part in "qkv"]

    def _attend(self, query: str, attended: KeysValues, bias: str, name: str) -> str:
        """Attention without scaling, as T5 has it; query is [batch, rows, inner]."""
        context = attend(self.graph, query, attended, bias, heads=self.heads, scale=1.0)
        return self._product(context, f"{name}.o")

    def _feed_forward(self, normed: str, name: str) -> str:
        if self.config.is_gated_act:  # T5 1.1: gelu_new
            gate = self._gelu_new(self._product(normed, f"{name}.wi_0"))
            inner = self.graph.mul(gate, self._product(normed, f"{name}.wi_1"))
            return self._product(inner, f"{name}.wo")
        first, second = (self.model.linear(f"{name}.{part}") for part in ("wi", "wo"))
        return self._linears.rectified(self.graph, normed, first, second)

    def _gelu_new(self, value: str) -> str:
        """The tanh approximation of GELU (https://arxiv.org/abs/1606.08415)."""
        g = self.graph
        cube = g.mul(g.mul(value, value), value)
        inner = g.mul(
            g.add(value, g.mul(cube, g.real(0.044715))), g.real(float(np.sqrt(2.0 / np.pi)))
        )
        half = g.mul(value, g.real(0.5))
        return g.mul(half, g.add(g.op("Tanh", inner), g.real(1.0)))

    def _product(self, rows: str, name: str) -> str:
        """The product with one linear layer."""
        return self._linears.product(self.graph, rows, self.model.linear(name))


_BIAS: Final = "{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
