"""What goes into the graphs, and what searches find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from core.catalog import ItemArray

PAST: Final = "past_"
"""What names begin with of what the decoder keeps."""
_OF_A_STEP: Final = frozenset({"token", "written"})


@dataclass(frozen=True)
class TextInputs:
    """What a step of text is given beside the last tokens."""

    fixed: Mapping[str, int | None]
    """What does not change while a text is written, what `encode` returned and the mask: name → the
    axis of a row that has the tokens of its prompt, if any has."""
    past: Mapping[str, tuple[int, int]]
    """What the decoder keeps, float32 [batch, heads, tokens, width]: name → heads and width."""

    @classmethod
    def of(cls, session: ort.InferenceSession) -> "TextInputs":
        """As the graph names them."""
        shapes = {value.name: value.shape for value in session.get_inputs()}
        past = {n: (s[1], s[3]) for n, s in shapes.items() if n.startswith(PAST)}
        fixed = sorted(shapes.keys() - past.keys() - _OF_A_STEP)
        return cls({name: _axis_of_tokens(shapes[name]) for name in fixed}, past)


@dataclass(frozen=True)
class Prompts:
    """Rendered prompts, padded on the right."""

    input_ids: NDArray[np.int64]
    """[queries, tokens]"""
    attention_mask: NDArray[np.int64]
    """[queries, tokens] 1 for prompt, 0 for padding."""
    seen: NDArray[np.int64]
    """[queries, seen] what the histories hold, -1 where there are fewer."""

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], pad: int, seen: Sequence[ItemArray] = ()
    ) -> "Prompts":
        """Pads token ids, and the items of histories, to the longest."""
        ids = _padded(prompts, pad)
        lengths = np.array([len(prompt) for prompt in prompts])
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        return cls(ids, mask, _padded(seen or [()] * len(prompts), -1))

    def to_dict(self) -> dict[str, NDArray[np.int64]]:
        """As the graphs and `transformers` name them."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


@dataclass(frozen=True)
class Leaves:
    """What searches found."""

    node: NDArray[np.int64]
    """[queries, lists, found] leaves, best first."""
    score: NDArray[np.float32]
    """[queries, lists, found] far below every sum of log-probabilities where there is no leaf."""
    missed: NDArray[np.float32] | None = None
    """[queries, lists] what no leaf that was missed scores more than; None where that is not
    known."""


def _axis_of_tokens(shape: Sequence[int | str]) -> int | None:
    """Among the axes of one row, without that of the batch."""
    return shape.index("tokens") - 1 if "tokens" in shape else None


def _padded(rows: Sequence[Sequence[int] | ItemArray], fill: int) -> NDArray[np.int64]:
    padded = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
