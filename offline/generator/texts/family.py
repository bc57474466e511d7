"""A family that writes text: an explanation of an item, or the summary of a review."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor

from offline.generator.texts.batches import TextBatch
from offline.reviews.examples import TextExample
from offline.training.families import digest
from services.generator.prompts import Template
from services.generator.text.rendering import PromptRenderer

NAMELESS_SHARE: Final = 0.1
"""Of the prompts: they do not name the user, so that the model can write for one unknown to it."""
UNTOLD_SHARE: Final = 0.2
"""Of the explanations with a feature word: the prompt may not tell it, so that the model can write
without one."""
_SORTED_TOGETHER: Final = 16
"""Batches within which prompts are sorted by length, for less padding."""


@dataclass(frozen=True)
class TextFamily:
    """See `offline.training.families.Family`."""

    text_loss: Callable[[TextBatch], Tensor]
    """Of the model."""
    examples: Sequence[TextExample]
    templates: Sequence[Template]
    prompts: PromptRenderer
    batch_size: int
    max_text_tokens: int
    """Of a text, its end token included; what is longer is cut, and has no end."""
    eos: int

    def batches(self, rng: np.random.Generator, count: int | None) -> list[TextBatch]:
        """Passes over the examples, each in another order, as far as they are asked for."""
        made: list[TextBatch] = []
        while not made or (count is not None and len(made) < count):
            made += self._pass(rng)
        return made[:count]

    def loss(self, batch: TextBatch) -> Tensor:
        """The mean loss of the texts' tokens."""
        return self.text_loss(batch)

    def fingerprint(self) -> str:
        """Changes with anything that the batches depend on."""
        facts = (self.templates, self.batch_size, self.max_text_tokens, self.prompts.max_tokens)
        texts = [(e.user, e.item, e.feature, e.text, e.target) for e in self.examples]
        return digest((facts, texts), [example.history for example in self.examples])

    def target(self, text: str) -> list[int]:
        """A text as it is learned: token ids, ended unless it is cut."""
        ids: list[int] = self.prompts.tokenizer.encode(text, add_special_tokens=False).ids
        return [*ids, self.eos][: self.max_text_tokens]

    def _pass(self, rng: np.random.Generator) -> list[TextBatch]:
        """Every example once: as many as fit into whole batches, or one smaller batch."""
        rows = [self._row(self.examples[i], rng) for i in rng.permutation(len(self.examples))]
        size, batches = self.batch_size, []
        for start in range(0, len(rows), size * _SORTED_TOGETHER):
            together = rows[start : start + size * _SORTED_TOGETHER]
            together.sort(key=lambda row: len(row[0]) + len(row[1]))
            batches += [together[i : i + size] for i in range(0, len(together), size)]
        return [TextBatch.of(*zip(*batches[i], strict=True)) for i in rng.permutation(len(batches))]

    def _row(self, example: TextExample, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """A prompt that tells some of what is known, and the text."""
        named = rng.random() >= NAMELESS_SHARE
        told = rng.random() >= UNTOLD_SHARE
        question = example.question(named=named, told=told)
        fitting = [template for template in self.templates if question.fits(template)]
        template = fitting[int(rng.integers(len(fitting)))]
        return self.prompts.ids(template, question), self.target(example.target)
