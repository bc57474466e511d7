"""T5 as a backbone, for models that read tokens and for those that read whole items."""

from dataclasses import dataclass

from transformers import T5ForConditionalGeneration

from offline.generator.export.backbone import Backbone, arrays_of
from offline.generator.export.heads import ItemHead, TokenHead
from offline.generator.export.linear import Linears
from offline.generator.export.t5.decoder import T5Decoder
from offline.generator.export.t5.encode import encode_graph, encode_items_graph
from offline.generator.export.t5.layers import WORDS, T5Weights
from offline.generator.export.t5.text import text_graph
from offline.generator.items.model import ItemT5
from offline.onnx_graph import OnnxGraphBuilder


@dataclass(frozen=True)
class T5Backbone(Backbone):
    """A T5."""

    weights: T5Weights
    max_tokens: int
    reads_items: bool

    @classmethod
    def of(
        cls, model: T5ForConditionalGeneration | ItemT5, max_tokens: int, *, writes: bool = False
    ) -> "T5Backbone":
        """Takes the weights out of a model.

        Args:
            model: one that reads tokens, or one that reads whole items.
            max_tokens: the most positions of a prompt.
            writes: whether it writes text.
        """
        if isinstance(model, ItemT5):
            return cls(item_weights(model, writes=writes), max_tokens, reads_items=True)
        return cls(T5Weights.of(model), max_tokens, reads_items=False)

    def encode(self, linears: Linears) -> OnnxGraphBuilder:
        """See `Backbone`."""
        write = encode_items_graph if self.reads_items else encode_graph
        return write(self.weights, linears, max_tokens=self.max_tokens)

    def decoder(self, graph: OnnxGraphBuilder, linears: Linears, levels: int) -> T5Decoder:
        """See `Backbone`."""
        kind = ItemHead if self.reads_items else TokenHead
        return T5Decoder(graph, self.weights, linears, levels, kind)

    def text(self, linears: Linears, max_tokens: int) -> OnnxGraphBuilder:
        """See `Backbone`."""
        return text_graph(self.weights, linears, max_tokens=max_tokens, from_state=self.reads_items)


def item_weights(model: ItemT5, *, writes: bool = False) -> T5Weights:
    """The weights of a model that reads whole items; its head speaks about the codes' tokens, and
    that of one that writes text has another about the words before them."""
    first = int(min(tokens.min() for tokens in model.tree.vocabulary))
    arrays = arrays_of(model.t5)
    arrays["lm_head.weight"] = arrays["shared.weight"][first:]
    if writes:
        arrays[f"{WORDS}.weight"] = arrays["shared.weight"][: model.words]
    arrays["query.weight"] = model.query.weight.detach().numpy()
    arrays["query.bias"] = model.query.bias.detach().numpy()
    arrays["seen"] = model.seen.detach().numpy()
    return T5Weights(model.t5.config, arrays, first)
