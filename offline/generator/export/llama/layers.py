"""The layers of LLaMA and its kin as ONNX operators (Touvron et al., https://arxiv.org/abs/2302.13971).

Attention to the prompt and to the rows that follow it is one softmax, over keys that stand side by
side. With grouped queries several heads share keys: their queries are more rows of the same
product, so keys are never repeated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import PreTrainedModel

from offline.generator.export.attention import KeysValues, attend
from offline.generator.export.backbone import Activation, Weights, arrays_of
from offline.generator.export.linear import Linears
from offline.generator.export.residual import Stream, normalize
from offline.onnx_graph import OnnxGraphBuilder

KINDS: Final = ("llama", "qwen2", "qwen3")
"""The models that are known to be built so, by the `model_type` of their configuration."""


@dataclass(frozen=True)
class LlamaWeights(Weights):
    """The weights of a decoder-only model."""

    @classmethod
    def of(cls, model: PreTrainedModel, positions: int) -> "LlamaWeights":
        """Takes the weights out of a model, and the angles of so many positions.

        Raises:
            ValueError: it is built in another way, or cannot read so many positions.
        """
        require(model.config, positions)
        arrays = arrays_of(model)
        rotary: Any = model.get_submodule("model.rotary_emb")
        with torch.inference_mode():
            place = torch.arange(positions, device=model.device)[None]
            cosines, sines = rotary(torch.zeros(1, device=model.device), place)
        for name, angles in (("cosines", cosines), ("sines", sines)):
            half = angles[0, :, : angles.shape[-1] // 2]  # both halves of a head turn alike
            arrays[f"rotary.{name}"] = half.float().cpu().numpy()
        return cls(model.config, arrays)

    @property
    def heads(self) -> int:
        """Heads of queries."""
        return int(self.config.num_attention_heads)

    @property
    def key_heads(self) -> int:
        """Heads of keys and values, each of which serves as many heads of queries."""
        return int(self.config.num_key_value_heads)

    @property
    def width(self) -> int:
        """Of a head."""
        own = getattr(self.config, "head_dim", None)
        return int(own or self.config.hidden_size // self.heads)

    @property
    def layers(self) -> int:
        """How many there are."""
        return int(self.config.num_hidden_layers)

    def activations(self) -> Iterator[Activation]:
        """See `Weights`."""
        for layer in range(self.layers):
            block = f"model.layers.{layer}"
            own, feed_forward = f"{block}.self_attn", f"{block}.mlp"
            yield Activation(f"{block}.input_layernorm", [f"{own}.{p}_proj" for p in "qkv"])
            repeats = self.heads // self.key_heads
            yield Activation(f"{own}.v_proj", [f"{own}.o_proj"], self.key_heads, repeats)
            gated = [f"{feed_forward}.{part}_proj" for part in ("gate", "up")]
            yield Activation(f"{block}.post_attention_layernorm", gated)
            yield Activation(f"{feed_forward}.up_proj", [f"{feed_forward}.down_proj"])
        yield Activation("model.norm", ["lm_head"])


def require(config: Any, positions: int) -> None:
    """Refuses what would be exported wrongly.

    Raises:
        ValueError: a model of this configuration is built in another way, or cannot read so many
            positions.
    """
    if config.model_type not in KINDS:
        raise ValueError(f"a {config.model_type} is not exported; these are: {', '.join(KINDS)}")
    if config.hidden_act != "silu":
        raise ValueError(f"a feed-forward network with {config.hidden_act} is not exported")
    if positions > config.max_position_embeddings:
        raise ValueError(
            f"prompts and codes take {positions} positions, the model reads "
            f"{config.max_position_embeddings}"
        )
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", False) and window and window < positions:
        raise ValueError(
            f"prompts and codes take {positions} positions, the model attends to {window}"
        )
    scaling = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if scaling in ("dynamic", "longrope"):
        raise ValueError(f"rotary positions of the type {scaling} change with the prompt's length")


class LlamaLayers:
    """Writes the layers of one model into a graph."""

    first_code_token = 0
    """`logits` speak about the whole vocabulary."""

    def __init__(self, graph: OnnxGraphBuilder, model: LlamaWeights, linears: Linears) -> None:
        self.graph = graph
        self.model = model
        self.config = model.config
        self.cache_shape = ("batch", model.key_heads, "tokens", model.width)
        self._linears = linears

    def embed(self, tokens: str) -> str:
        """Token ids [...] to vectors [..., hidden_size]."""
        name = "model.embed_tokens.weight"
        table = self.graph.weight(name, self.model.arrays[name])
        return self.graph.op("Gather", table, tokens, axis=0)

    def logits(self, normed: str) -> str:
        """What is said about each token, [batch, rows, vocabulary]."""
        return self._product(normed, "lm_head")

    def read(
        self,
        rows: str,
        position: str,
        bias: str,
        past: Sequence[KeysValues] | None = None,
        last: str | None = None,
    ) -> tuple[str, list[KeysValues]]:
        """Reads rows and returns what the model makes of each.

        Args:
            rows: [batch, rows, hidden_size] the embedded tokens.
            position: int64 [batch, rows] where each stands.
            bias: [batch or 1, 1, rows, past rows + rows] MASKED for what a row must not see.
            past: each layer's keys and values of what came before, [batch, key heads, past rows,
                width].
            last: int64 [batch, 1] the only row of each request whose state is asked for; the bias
                is then the same for all requests. The last layer makes only keys and values of
                the others.

        Returns:
            Normalized states [batch, rows, hidden_size], or of one row a request; and `past` with
            all rows appended.
        """
        g, stream = self.graph, Stream(rows)
        mask = self._for_each_repeat(bias)
        extended: list[KeysValues] = []
        for layer in range(self.model.layers):
            block = f"model.layers.{layer}"
            normed, stream = self._norm(stream, f"{block}.input_layernorm")
            own = self._keys_values(normed, position, f"{block}.self_attn")
            if past is not None:
                keys = g.op("Concat", past[layer].keys, own.keys, axis=2)
                own = KeysValues(keys, g.op("Concat", past[layer].values, own.values, axis=2))
            extended.append(own)
            if last is not None and layer == self.model.layers - 1:
                normed, stream = self._row(normed, last), Stream(self._row(stream.value, last))
                same = g.op("Gather", g.op("Squeeze", bias, g.ints(0, 1)), last, axis=0)
                position, mask = last, self._for_each_repeat(g.unsqueeze(same, 1))
            query = self._query(normed, position, f"{block}.self_attn")
            stream.update = self._attend(query, own, mask, f"{block}.self_attn")
            normed, stream = self._norm(stream, f"{block}.post_attention_layernorm")
            stream.update = self._feed_forward(normed, f"{block}.mlp")
        normed, _ = self._norm(stream, "model.norm")
        return normed, extended

    def _row(self, rows: str, last: str) -> str:
        """One row of each request, [batch, 1, channels]."""
        return self.graph.unsqueeze(self.graph.op("GatherND", rows, last, batch_dims=1), 1)

    def _for_each_repeat(self, bias: str) -> str:
        """The same for all queries that share keys, which are rows below each other."""
        repeats = self.model.heads // self.model.key_heads
        return self.graph.op("Concat", *[bias] * repeats, axis=2) if repeats > 1 else bias

    def _norm(self, stream: Stream, name: str) -> tuple[str, Stream]:
        """Adds the pending update, and normalizes."""
        weight = self.model.arrays[f"{name}.weight"]
        return normalize(self.graph, stream, name, weight, float(self.config.rms_norm_eps))

    def _keys_values(self, normed: str, position: str, name: str) -> KeysValues:
        """Of these rows, [batch, key heads, rows, width]."""
        model = self.model
        keys = self._turned(normed, position, f"{name}.k", model.key_heads)
        values = self._product(normed, f"{name}.v_proj")
        return KeysValues(*(self._by_head(rows, model.key_heads) for rows in (keys, values)))

    def _query(self, normed: str, position: str, name: str) -> str:
        """[batch, repeats · rows, key heads · width]: heads that share keys are rows."""
        model, g = self.model, self.graph
        query = self._turned(normed, position, f"{name}.q", model.heads)
        repeats = model.heads // model.key_heads
        if repeats == 1:
            return query
        split = g.reshape(query, 0, -1, model.key_heads, repeats, model.width)
        rows = g.op("Transpose", split, perm=[0, 3, 1, 2, 4])
        return self.graph.op("Reshape", rows, g.ints(0, -1, model.key_heads * model.width))

    def _attend(self, query: str, attended: KeysValues, bias: str, name: str) -> str:
        model, g = self.model, self.graph
        scale = model.width**-0.5
        context = attend(g, query, attended, bias, heads=model.key_heads, scale=scale)
        repeats = model.heads // model.key_heads
        if repeats > 1:
            split = g.reshape(context, 0, repeats, -1, model.key_heads, model.width)
            rows = g.op("Transpose", split, perm=[0, 2, 3, 1, 4])
            context = g.reshape(rows, 0, 0, model.heads * model.width)
        return self._product(context, f"{name}.o_proj")

    def _turned(self, normed: str, position: str, name: str, heads: int) -> str:
        """Queries or keys, [batch, rows, heads · width], turned by the angles of their places."""
        g, arrays = self.graph, self.model.arrays
        rows = self._product(normed, f"{name}_proj")
        if f"{name}_norm.weight" in arrays:  # Qwen3 normalizes each head
            rows = self._norm_heads(rows, f"{name}_norm", heads)
        angles = [g.weight(f"rotary.{n}", arrays[f"rotary.{n}"]) for n in ("cosines", "sines")]
        # Each row as a sequence of its own: the operator takes no more rows than there are angles.
        alone = g.reshape(rows, -1, 1, heads * self.model.width)
        place = g.reshape(position, -1, 1)
        turned = g.op("RotaryEmbedding", alone, place, *angles, domain="com.microsoft")
        return g.op("Reshape", turned, g.op("Shape", rows))

    def _norm_heads(self, rows: str, name: str, heads: int) -> str:
        g, width = self.graph, self.model.width
        split = Stream(g.reshape(rows, 0, 0, heads, width))
        normed, _ = self._norm(split, name)
        return g.reshape(normed, 0, 0, heads * width)

    def _by_head(self, rows: str, heads: int) -> str:
        split = self.graph.reshape(rows, 0, 0, heads, self.model.width)
        return self.graph.op("Transpose", split, perm=[0, 2, 1, 3])

    def _feed_forward(self, normed: str, name: str) -> str:
        """SwiGLU (https://arxiv.org/abs/2002.05202)."""
        g = self.graph
        gate = self._product(normed, f"{name}.gate_proj")
        gate = g.mul(gate, g.op("Sigmoid", gate))
        inner = g.mul(gate, self._product(normed, f"{name}.up_proj"))
        return self._product(inner, f"{name}.down_proj")

    def _product(self, rows: str, name: str) -> str:
        """The product with one linear layer, and its bias where it has one."""
        product = self._linears.product(self.graph, rows, self.model.linear(name))
        bias = self.model.arrays.get(f"{name}.bias")
        if bias is None:
            return product
        return self.graph.add(product, self.graph.weight(f"{name}.bias", bias))
