"""The scores of a model that reads whole items, written anew in numpy: one prefix at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.generator.items.model import ItemT5

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class Oracle:
    """A model's weights, and what follows from them."""

    weights: dict[str, Float64]
    heads: int
    layers: int
    decoder_layers: int

    @classmethod
    def of(cls, model: ItemT5) -> "Oracle":
        weights = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}
        config = model.t5.config
        decoder_layers = int(config.num_decoder_layers or config.num_layers)
        return cls(weights, config.num_heads, config.num_layers, decoder_layers)

    def table(self) -> Float64:
        """The items' vectors, of unit norm."""
        vectors = self.weights["item_vectors"]
        unit: Float64 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def states(self, words: Sequence[int], read: Sequence[int], table: Float64) -> Float64:
        """The encoder's states, [positions, d_model]."""
        shared = self.weights["t5.shared.weight"]
        scale = math.sqrt(table.shape[1])
        rows = np.stack([*(shared[w] for w in words), *(table[i] * scale for i in read)])
        for layer in range(self.layers):
            name = f"t5.encoder.block.{layer}.layer"
            normed = self._norm(rows, f"{name}.0.layer_norm")
            rows = rows + self._self_attention("encoder", f"{name}.0.SelfAttention", normed)
            rows = rows + self._feed_forward(f"{name}.1", rows)
        return self._norm(rows, "t5.encoder.final_layer_norm")

    def after(self, prefix: Sequence[int], memory: Float64) -> Float64:
        """The decoder's state after a prefix of a code, [d_model]."""
        shared = self.weights["t5.shared.weight"]
        rows = np.stack([shared[0] + memory[-1], *(shared[token] for token in prefix)])
        for layer in range(self.decoder_layers):
            name = f"t5.decoder.block.{layer}.layer"
            normed = self._norm(rows, f"{name}.0.layer_norm")
            rows = rows + self._self_attention("decoder", f"{name}.0.SelfAttention", normed)
            normed = self._norm(rows, f"{name}.1.layer_norm")
            rows = rows + self._attend(f"{name}.1.EncDecAttention", normed, memory, 0.0)
            rows = rows + self._feed_forward(f"{name}.2", rows)
        last: Float64 = self._norm(rows, "t5.decoder.final_layer_norm")[-1]
        return last

    def likelihoods(self, state: Float64, seen: Sequence[int], table: Float64) -> Float64:
        """How likely each item is before the decoder says anything, [items]."""
        query = self.weights["query.weight"] @ state + self.weights["query.bias"]
        scores = table @ query
        scores[sorted(set(seen))] += 20.0 * float(self.weights["seen"])
        return scores

    def scores(
        self,
        words: Sequence[int],
        history: Sequence[int],
        codes: Int32,
        *,
        longest: int,
        table: Float64 | None = None,
        live: Sequence[int] | None = None,
    ) -> Float64:
        """The log-probability of the code of every live item, in their order.

        Args:
            words: the prompt before the history.
            history: oldest first.
            codes: [items, levels] token ids.
            longest: newest items of the history that are read.
            table: the items' vectors; those of the model when None.
            live: the items that there are; all when None.
        """
        table = self.table() if table is None else table
        live = range(len(codes)) if live is None else live
        memory = self.states(words, list(history)[-longest:], table)
        likelihood = self.likelihoods(memory[-1], history, table)
        total = dict.fromkeys(live, 0.0)
        for prefix in {tuple(codes[i, :n].tolist()) for i in live for n in range(codes.shape[1])}:
            depth = len(prefix)
            below = [i for i in live if tuple(codes[i, :depth].tolist()) == prefix]
            hidden = self.after(prefix, memory)
            logits: dict[int, float] = {}
            for token in {int(codes[i, depth]) for i in below}:
                under = [likelihood[i] for i in below if codes[i, depth] == token]
                logits[token] = (
                    np.logaddexp.reduce(under) + hidden @ self.weights["t5.shared.weight"][token]
                )
            everything = np.logaddexp.reduce(list(logits.values()))
            for i in below:
                total[i] += logits[int(codes[i, depth])] - everything
        return np.array([total[i] for i in live])

    def _norm(self, rows: Float64, name: str) -> Float64:
        root = np.sqrt((rows**2).mean(axis=-1, keepdims=True) + 1e-6)
        normed: Float64 = rows / root * self.weights[f"{name}.weight"]
        return normed

    def _feed_forward(self, name: str, rows: Float64) -> Float64:
        inner = self._norm(rows, f"{name}.layer_norm") @ self._matrix(f"{name}.DenseReluDense.wi")
        raised: Float64 = np.maximum(inner, 0.0) @ self._matrix(f"{name}.DenseReluDense.wo")
        return raised

    def _matrix(self, name: str) -> Float64:
        matrix: Float64 = self.weights[f"{name}.weight"].T
        return matrix

    def _self_attention(self, stack: str, name: str, rows: Float64) -> Float64:
        """Of each row to itself and to those before it, with T5's bias by distance."""
        bias = self.weights[
            f"t5.{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ]
        back = np.arange(len(rows))[:, None] - np.arange(len(rows))
        buckets = np.vectorize(bucket)(np.maximum(back, 0))
        seen = np.where(back[None] >= 0, bias[buckets].transpose(2, 0, 1), -np.inf)
        return self._attend(name, rows, rows, seen)

    def _attend(self, name: str, rows: Float64, memory: Float64, bias: Float64 | float) -> Float64:
        def split(x: Float64) -> Float64:
            return x.reshape(len(x), self.heads, -1).transpose(1, 0, 2)

        query = split(rows @ self._matrix(f"{name}.q"))
        keys, values = (split(memory @ self._matrix(f"{name}.{part}")) for part in "kv")
        logits = query @ keys.transpose(0, 2, 1) + bias
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ values).transpose(1, 0, 2).reshape(len(rows), -1)
        joined: Float64 = mixed @ self._matrix(f"{name}.o")
        return joined


def bucket(back: int) -> int:
    """T5's bucket of a distance: 16 for the nearest, 16 more on a logarithmic scale to 128."""
    if back < 16:
        return back
    return min(31, 16 + int(math.log(back / 16) / math.log(128 / 16) * 16))
