"""The text engine: prompts in, one token more of each text at every step.

Blocking, and for one thread at a time. It knows token ids only; what they say is for its caller.
Rows of different calls at different steps share a step, and may come and go between two of them.
What a row is given does not depend on the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from core.errors import FailedPrecondition
from core.manifest import TextSection
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.arrays import Prompts
from services.generator.decoding.parts import GeneratorParts
from services.generator.text.rows import Encoded, Rows
from services.generator.text.sampling import Chooser, Sampling


@dataclass(frozen=True)
class TextJob:
    """A text to write."""

    snapshot: CodedCatalog
    """What the items of its prompt refer to."""
    prompt: Sequence[int]
    """Token ids, as in `DecodingJob`."""
    max_tokens: int
    """After so many it ends."""
    sampling: Sampling | None = None
    """None for the likeliest token at each step."""


class TextEngine:
    """The texts that are being written.

    Args:
        parts: the model.

    Raises:
        FailedPrecondition: reason NO_TEXT: the bundle's model writes no text.
    """

    def __init__(self, parts: GeneratorParts) -> None:
        self.section = text_section(parts)
        self._parts = parts
        self._rows = Rows(parts.graphs)
        self._choosers: list[Chooser] = []
        self._last: list[int] = []

    def __len__(self) -> int:
        return len(self._last)

    def encode(self, jobs: Sequence[TextJob]) -> list[Encoded]:
        """Reads the prompts of jobs of one version of the catalog."""
        graphs, section = self._parts.graphs, self._parts.section
        prompts = Prompts.of([job.prompt for job in jobs], section.pad_token)
        encoded = graphs.encode(prompts, jobs[0].snapshot)
        fixed: dict[str, NDArray[Any]] = {
            name: encoded[name] if name == "attention_mask" else encoded[name].numpy()
            for name in self._rows.read.fixed
        }
        return [self._row(fixed, i, len(job.prompt)) for i, job in enumerate(jobs)]

    def change(self, keep: Sequence[int], jobs: Sequence[TextJob], rows: Sequence[Encoded]) -> None:
        """Drops texts and begins others.

        Args:
            keep: the places of the texts that go on, in their new order.
            jobs: those that begin, which stand behind them.
            rows: what `encode` made of these.
        """
        self._rows.change(keep, rows)
        start = self.section.start_token
        first = [job.prompt[-1] if start is None else start for job in jobs]
        self._choosers = [self._choosers[i] for i in keep] + [Chooser(job.sampling) for job in jobs]
        self._last = [self._last[i] for i in keep] + first

    def step(self) -> list[int]:
        """The next token of each text."""
        logits = self._rows.step(self._last)
        pairs = zip(self._choosers, logits, strict=True)
        self._last = [chooser.choose(row) for chooser, row in pairs]
        return list(self._last)

    def _row(self, encoded: Mapping[str, NDArray[Any]], row: int, tokens: int) -> Encoded:
        """What was made of one prompt, without the padding of its batch."""
        return {
            name: _cut(encoded[name][row], axis, tokens)
            for name, axis in self._rows.read.fixed.items()
        }


def text_section(parts: GeneratorParts) -> TextSection:
    """What is known of the text that a model writes.

    Raises:
        FailedPrecondition: reason NO_TEXT: it writes none.
    """
    if parts.section.text is None:
        raise FailedPrecondition(
            "the bundle's model was not taught to write text",
            reason="NO_TEXT",
        )
    return parts.section.text


def _cut(array: NDArray[Any], axis: int | None, length: int) -> NDArray[Any]:
    return array if axis is None else array.take(range(length), axis)
