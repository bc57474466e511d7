"""T5's layers as ONNX operators (Raffel et al., https://arxiv.org/abs/1910.10683).

The decoder here reads a set of tokens at once: the beams of a search, or the prefixes of a
shortlist. Within a request they are rows of one matrix, so attention to the encoder needs its keys
and values once per request, however many rows there are; which rows see which earlier ones is a
bias that the caller gives.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import T5ForConditionalGeneration

from offline.generator.export.tape import FLOAT, INT64, Tape

MASKED: Final = -1e9
"""Added to what must not be attended to; finite, so that a row that sees nothing is not NaN."""


@dataclass(frozen=True)
class KeysValues:
    """Keys [batch, heads, width, rows] and values [batch, heads, rows, width] of attention."""

    keys: str
    values: str


class T5Layers:
    """Writes the layers of one model onto a tape."""

    def __init__(self, tape: Tape, model: T5ForConditionalGeneration) -> None:
        self.tape = tape
        self.config: Any = model.config
        self.state: dict[str, torch.Tensor] = model.state_dict()
        self.heads = int(self.config.num_heads)
        self.width = int(self.config.d_kv)
        encoder: Any = model.encoder
        decoder: Any = model.decoder
        self.decoder_layers = len(decoder.block)
        self._encoder_bias = encoder.block[0].layer[0].SelfAttention
        self._decoder_bias = decoder.block[0].layer[0].SelfAttention

    # The encoder

    def encode(self, max_tokens: int) -> list[KeysValues]:
        """Reads the graph's prompt and returns, for each decoder layer, what it attends to.

        Declares the inputs `input_ids` and `attention_mask`, int64 [batch, tokens].
        """
        t = self.tape
        ids = t.input("input_ids", INT64, ["batch", "tokens"])
        mask = t.input("attention_mask", INT64, ["batch", "tokens"])
        absent = t.op("Sub", t.real(1.0), t.cast(mask, FLOAT))
        padding = t.mul(t.unsqueeze(absent, 1, 2), t.real(MASKED))
        bias = t.add(self._encoder_position_bias(t.size(ids, 1), max_tokens), padding)
        hidden = self.embed(ids)
        for layer in range(int(self.config.num_layers)):
            hidden = self._encoder_block(f"encoder.block.{layer}.layer", hidden, bias)
        hidden = self._norm(hidden, "encoder.final_layer_norm")
        self._encoded_padding = padding
        return self._cross_keys_values(hidden)

    def embed(self, tokens: str) -> str:
        """Token ids [...] to vectors [..., d_model]."""
        return self.tape.op("Gather", self._weight("shared.weight"), tokens, axis=0)

    def _encoder_block(self, name: str, hidden: str, bias: str) -> str:
        normed = self._norm(hidden, f"{name}.0.layer_norm")
        query, attended = self._self_projections(f"{name}.0.SelfAttention", normed)
        context = self._attend(query, attended, bias, f"{name}.0.SelfAttention")
        return self._feed_forward(f"{name}.1", self.tape.add(hidden, context))

    def _cross_keys_values(self, encoded: str) -> list[KeysValues]:
        """One product for the keys and values of all decoder layers."""
        t = self.tape
        names = [
            f"decoder.block.{layer}.layer.1.EncDecAttention.{part}.weight"
            for layer in range(self.decoder_layers)
            for part in ("k", "v")
        ]
        parts = t.ops(
            "Split",
            t.matmul(encoded, self._linear("decoder.cross_kv", *names)),
            outputs=len(names),
            axis=-1,
            num_outputs=len(names),
        )
        return [
            KeysValues(self._split_keys(keys), self._split_heads(values))
            for keys, values in zip(parts[::2], parts[1::2], strict=True)
        ]

    def _encoder_position_bias(self, length: str, max_tokens: int) -> str:
        """[1, heads, tokens, tokens]: looked up by distance in a table of [2·max - 1, heads]."""
        t = self.tape
        distances = torch.arange(-(max_tokens - 1), max_tokens)
        buckets = self._encoder_bias._relative_position_bucket(
            distances,
            bidirectional=True,
            num_buckets=self.config.relative_attention_num_buckets,
            max_distance=self.config.relative_attention_max_distance,
        )
        table = self._encoder_bias.relative_attention_bias.weight.detach()[buckets]
        positions = t.range(length)
        difference = t.op("Sub", t.unsqueeze(positions, 0), t.unsqueeze(positions, 1))
        index = t.add(difference, t.integer(max_tokens - 1))
        name = t.weight("encoder.position_bias", table.numpy().astype(np.float32))
        bias = t.op("Transpose", t.op("Gather", name, index, axis=0), perm=[2, 0, 1])
        return t.unsqueeze(bias, 0)

    # The decoder

    @cached_property
    def decoder_position_bias(self) -> NDArray[np.float32]:
        """[max code length, heads] the bias of attending 0, 1, 2, … tokens back.

        T5 gives each of the nearest distances a bucket of its own, so this is its table's head.
        """
        exact = self.config.relative_attention_num_buckets // 2
        table: NDArray[np.float32] = (
            self._decoder_bias.relative_attention_bias.weight.detach()[:exact].float().numpy()
        )
        return table

    def decode(
        self,
        tokens: str,
        bias: str,
        cross: list[KeysValues],
        past: list[tuple[str, str]] | None = None,
    ) -> tuple[str, list[tuple[str, str]]]:
        """Reads a row per token and returns log-probabilities of what follows each.

        Args:
            tokens: int64 [batch, rows].
            bias: [batch, heads or 1, rows, past rows + rows] position bias and visibility.
            cross: what `encode` returned.
            past: each layer's keys and values, [batch, past rows, inner], of earlier calls.

        Returns:
            Log-probabilities [batch, rows, vocabulary], and `past` with these rows appended.
        """
        t = self.tape
        hidden = self.embed(tokens)
        extended: list[tuple[str, str]] = []
        for layer in range(self.decoder_layers):
            name = f"decoder.block.{layer}.layer"
            normed = self._norm(hidden, f"{name}.0.layer_norm")
            query, keys, values = self._project(f"{name}.0.SelfAttention", normed)
            if past is not None:
                keys = t.op("Concat", past[layer][0], keys, axis=1)
                values = t.op("Concat", past[layer][1], values, axis=1)
            extended.append((keys, values))
            attended = KeysValues(self._split_keys(keys), self._split_heads(values))
            context = self._attend(
                self._split_heads(query), attended, bias, f"{name}.0.SelfAttention"
            )
            hidden = t.add(hidden, context)
            normed = self._norm(hidden, f"{name}.1.layer_norm")
            query = t.matmul(normed, self._linear(f"{name}.1.EncDecAttention.q.weight"))
            context = self._attend(
                self._split_heads(query),
                cross[layer],
                self._encoded_padding,
                f"{name}.1.EncDecAttention",
            )
            hidden = self._feed_forward(f"{name}.2", t.add(hidden, context))
        return self._log_probabilities(hidden), extended

    def _log_probabilities(self, hidden: str) -> str:
        t = self.tape
        hidden = self._norm(hidden, "decoder.final_layer_norm")
        if self.config.scale_decoder_outputs:
            hidden = t.mul(hidden, t.real(self.config.d_model**-0.5))
        logits = t.matmul(hidden, self._linear("lm_head.weight"))
        return t.op("LogSoftmax", logits, axis=-1)

    # What both are made of

    def _norm(self, hidden: str, name: str) -> str:
        """Root mean square normalization, as ONNX Runtime's fused operator."""
        return self.tape.op(
            "SimplifiedLayerNormalization",
            hidden,
            self._weight(f"{name}.weight"),
            axis=-1,
            epsilon=float(self.config.layer_norm_epsilon),
            stash_type=1,
        )

    def _self_projections(self, name: str, hidden: str) -> tuple[str, KeysValues]:
        query, keys, values = self._project(name, hidden)
        attended = KeysValues(self._split_keys(keys), self._split_heads(values))
        return self._split_heads(query), attended

    def _project(self, name: str, hidden: str) -> list[str]:
        """Query, keys and values, each [batch, rows, inner], from one product."""
        weights = self._linear(f"{name}.qkv", *(f"{name}.{part}.weight" for part in "qkv"))
        return self.tape.ops(
            "Split", self.tape.matmul(hidden, weights), outputs=3, axis=-1, num_outputs=3
        )

    def _attend(self, query: str, attended: KeysValues, bias: str, name: str) -> str:
        """Attention without scaling, as T5 has it; query is [batch, heads, rows, width]."""
        t = self.tape
        weights = t.op("Softmax", t.add(t.matmul(query, attended.keys), bias), axis=-1)
        context = t.op("Transpose", t.matmul(weights, attended.values), perm=[0, 2, 1, 3])
        merged = t.reshape(context, 0, 0, self.heads * self.width)
        return t.matmul(merged, self._linear(f"{name}.o.weight"))

    def _split_heads(self, rows: str) -> str:
        """[batch, rows, inner] to [batch, heads, rows, width]."""
        split = self.tape.reshape(rows, 0, 0, self.heads, self.width)
        return self.tape.op("Transpose", split, perm=[0, 2, 1, 3])

    def _split_keys(self, rows: str) -> str:
        """[batch, rows, inner] to [batch, heads, width, rows]."""
        split = self.tape.reshape(rows, 0, 0, self.heads, self.width)
        return self.tape.op("Transpose", split, perm=[0, 2, 3, 1])

    def _feed_forward(self, name: str, hidden: str) -> str:
        t = self.tape
        dense = f"{name}.DenseReluDense"
        normed = self._norm(hidden, f"{name}.layer_norm")
        if self.config.is_gated_act:  # T5 1.1: gelu_new
            gate = self._gelu_new(t.matmul(normed, self._linear(f"{dense}.wi_0.weight")))
            inner = t.mul(gate, t.matmul(normed, self._linear(f"{dense}.wi_1.weight")))
        else:
            inner = t.op("Relu", t.matmul(normed, self._linear(f"{dense}.wi.weight")))
        return t.add(hidden, t.matmul(inner, self._linear(f"{dense}.wo.weight")))

    def _gelu_new(self, value: str) -> str:
        """The tanh approximation of GELU (https://arxiv.org/abs/1606.08415)."""
        t = self.tape
        cube = t.mul(t.mul(value, value), value)
        inner = t.mul(
            t.add(value, t.mul(cube, t.real(0.044715))), t.real(float(np.sqrt(2.0 / np.pi)))
        )
        half = t.mul(value, t.real(0.5))
        return t.mul(half, t.add(t.op("Tanh", inner), t.real(1.0)))

    def _weight(self, name: str) -> str:
        return self.tape.weight(name, self._array(name))

    def _linear(self, name: str, *parts: str) -> str:
        """The matrix of one linear layer, or of several side by side, as [in, out]."""
        arrays: list[NDArray[Any]] = [self._array(part).T for part in parts or (name,)]
        return self.tape.weight(f"{name}.transposed", np.concatenate(arrays, axis=1))

    def _array(self, name: str) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self.state[name].detach().float().cpu().numpy()
        return array
