"""Decoder-only models as a backbone."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from offline.generator.export.backbone import Backbone
from offline.generator.export.linear import Linears
from offline.generator.export.llama.decoder import LlamaDecoder
from offline.generator.export.llama.layers import LlamaWeights
from offline.generator.export.llama.prefill import prefill_graph
from offline.generator.export.llama.text import text_graph
from offline.onnx_graph import OnnxGraphBuilder


@dataclass(frozen=True)
class LlamaBackbone(Backbone):
    """A LLaMA, or what is built like it."""

    weights: LlamaWeights

    @classmethod
    def of(cls, model: PreTrainedModel, positions: int) -> "LlamaBackbone":
        """Takes the weights out of a model.

        Args:
            model: one for causal language modeling.
            positions: the most tokens of a prompt and of a code together.

        Raises:
            ValueError: it is built in another way, or cannot read so many positions.
        """
        return cls(LlamaWeights.of(model, positions))

    def encode(self, linears: Linears) -> OnnxGraphBuilder:
        """See `Backbone`."""
        return prefill_graph(self.weights, linears)

    def decoder(self, graph: OnnxGraphBuilder, linears: Linears, levels: int) -> LlamaDecoder:
        """See `Backbone`."""
        return LlamaDecoder(graph, self.weights, linears, levels)

    def text(self, linears: Linears, max_tokens: int) -> OnnxGraphBuilder:  # noqa: ARG002
        """See `Backbone`; its positions have no end that a table would need."""
        return text_graph(self.weights, linears)
