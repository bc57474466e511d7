"""What differs between backbones, and nothing else does.

A `Backbone` is a model's weights and what `encode.onnx` makes of a prompt with them. Whatever that
graph returns are inputs of the two others, under the same names; there a `Decoder` takes them, and
says what may follow the beginnings of codes. The search, the trie, the exact sums and the service
ask no more than that.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from offline.generator.export.attention import KeysValues
from offline.generator.export.heads import Head
from offline.generator.export.linear import Linear, Linears
from offline.onnx_graph import OnnxGraphBuilder

Matrix = NDArray[np.float32]
Peaks = Mapping[str, Matrix]
"""Layer → [in] the largest absolute value that each channel of its input had."""


@dataclass(frozen=True)
class Past:
    """What a search has decoded so far."""

    layers: Sequence[KeysValues]
    """Of every layer, all rows."""
    row_counts: tuple[str, ...]
    """The rows of each step, int64 scalars."""


@dataclass(frozen=True)
class Activation:
    """A value that some linear layers read, and the layer that it comes from."""

    source: str
    readers: Sequence[str]
    heads: int = 1
    """The source's channels are so many equal parts, …"""
    repeats: int = 1
    """… of which readers see each so often in a row, as grouped-query attention repeats values."""

    def gathered(self, largest: Matrix) -> Matrix:
        """What the readers' channels have at most, by the source's channels."""
        by_head = largest.reshape(self.heads, self.repeats, -1)
        most: Matrix = by_head.max(axis=1).ravel()
        return most

    def repeated(self, channels: Matrix) -> Matrix:
        """The source's channels as readers see them."""
        return np.repeat(channels.reshape(self.heads, 1, -1), self.repeats, axis=1).ravel()


@dataclass(frozen=True)
class Weights(ABC):
    """A model's configuration and its arrays, by the names that `transformers` gives them."""

    config: Any
    arrays: Mapping[str, Matrix]

    def linear(self, name: str) -> Linear:
        """A linear layer by its name."""
        return Linear(name, self.arrays[f"{name}.weight"].T)

    def having(self, arrays: Mapping[str, Matrix]) -> Self:
        """The same model with other arrays."""
        return replace(self, arrays=arrays)

    @abstractmethod
    def activations(self) -> Iterator[Activation]:
        """Where the input of every linear layer comes from."""


class Decoder(ABC):
    """Reads the beginnings of codes, after prompts that `encode.onnx` has read.

    Its constructor declares as inputs of the graph `attention_mask`, int64 [batch, tokens], what
    `encode.onnx` returned, and the arrays of the trie.

    Attributes:
        graph: that it writes into.
        head: what a token's score is made of.
        start_token: what a beam at the root has for its last token.
        eos_token: ends codes of different lengths.
        pad_token: follows their ends.
    """

    def __init__(self, head: Head, config: Any, start_token: int) -> None:
        self.graph: OnnxGraphBuilder = head.graph
        self.head = head
        self.start_token = start_token
        self.eos_token = int(config.eos_token_id)
        self.pad_token = int(config.pad_token_id)

    @abstractmethod
    def step(self, token: str, ancestors: str, past: Past | None) -> tuple[str, Past]:
        """One step of a search.

        Args:
            token: int64 [batch, beams] the last token of each beam; at the first step one beam,
                which has none yet.
            ancestors: [batch, beams, rows] 0 for the rows of this and of earlier steps that a beam
                descends from, itself included; MASKED for others.
            past: what the step before returned; None at the first.

        Returns:
            What is said after each beam, see `Head.said`, and `past` with these rows.
        """

    @abstractmethod
    def prefixes(self, token: str, depth: str, sees: str) -> str:
        """What is said after given beginnings of codes, see `Head.said`; the empty one is first.

        Args:
            token: int64 [batch, rows] the last token of each.
            depth: int64 [batch, rows] its length.
            sees: bool [batch, rows, rows] whether a row may look at another.
        """


@dataclass(frozen=True)
class Backbone(ABC):
    """A model that is exported."""

    weights: Weights

    @abstractmethod
    def encode(self, linears: Linears) -> OnnxGraphBuilder:
        """The graph that reads prompts.

        Its inputs are `input_ids` and `attention_mask`, int64 [batch, tokens], padded on the right,
        and for some models more that the service has. What it returns is the decoder's affair.

        Args:
            linears: the precision.
        """

    @abstractmethod
    def decoder(self, graph: OnnxGraphBuilder, linears: Linears, levels: int) -> Decoder:
        """What reads codes in another graph.

        Args:
            graph: to write into.
            linears: the precision.
            levels: the length of the codes.
        """

    @abstractmethod
    def text(self, linears: Linears, max_tokens: int) -> OnnxGraphBuilder:
        """The graph that writes text, a token for each row of a batch.

        Its inputs are what `encode.onnx` returned, `attention_mask`, the last token of each row
        and what the decoder keeps of those before, `past_…`; it returns the logits of the next
        token, and `present_…`.

        Args:
            linears: the precision.
            max_tokens: that a text has at most.
        """

    def having(self, weights: Weights) -> Self:
        """The same model with other weights."""
        return replace(self, weights=weights)


def arrays_of(model: nn.Module) -> dict[str, Matrix]:
    """A model's weights in float32, by name."""
    return {k: v.detach().float().cpu().numpy() for k, v in model.state_dict().items()}
