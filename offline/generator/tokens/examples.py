"""Training examples: prompts with the next items of their histories.

Nothing here has state: which examples an epoch has follows from its random numbers alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.generator.prompts import (
    DIRECT,
    SEQUENTIAL,
    Template,
    render_ids,
    select,
    user_text,
)

IGNORE = -100
"""The label that torch's cross-entropy leaves out."""


@dataclass(frozen=True)
class Window:
    """A cut through a user's sequence: history comes before `end`, targets follow."""

    user: int
    end: int
    direct: bool
    """Whether the prompt names the user instead of showing the history."""


@dataclass(frozen=True)
class Batch:
    """One step's tensors; see `MultiTargetLoss.forward`."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """In the order in which `forward` takes them."""
        return self.input_ids, self.attention_mask, self.labels


@dataclass(frozen=True)
class ExampleSource:
    """Everything that examples are made from."""

    sequences: Sequence[NDArray[np.int32]]
    """Each user's training items, oldest first."""
    codes: NDArray[np.int32]
    """[items, levels] token ids."""
    code_texts: Sequence[str]
    templates: Sequence[Template]
    tokenizer: Tokenizer
    dataset: str
    max_history: int
    max_tokens: int
    targets: int
    """Next items that are learned from each prompt."""
    direct_share: float
    """Fraction of the prompts that name the user instead of showing a history."""
    history_dropout: float
    """Probability of leaving an item out of a history: regularizes, and shortens prompts."""
    pad: int
    user_tokens: int = 0
    """See `user_text`."""
    prompts: int | None = None
    """Prompts of an epoch, at most."""

    def epoch(self, rng: np.random.Generator, batch_size: int) -> list[list[Window]]:
        """The batches of an epoch: every training item is a target once, after a random offset.

        Of more prompts than an epoch is to have, some are drawn.

        Prompts of similar length share a batch; the order of the batches is random.
        """
        windows = [
            Window(user, end, bool(rng.random() < self.direct_share))
            for user, sequence in enumerate(self.sequences)
            for end in range(1 + int(rng.integers(self.targets)), len(sequence), self.targets)
        ]
        shuffled = [windows[i] for i in rng.permutation(len(windows))[: self.prompts]]
        shuffled.sort(key=lambda w: 0 if w.direct else min(w.end, self.max_history))
        batches = [shuffled[i : i + batch_size] for i in range(0, len(shuffled), batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def collate(self, windows: Sequence[Window], rng: np.random.Generator) -> Batch:
        """Writes a batch out: a prompt for each window, and the codes of what comes next."""
        templates = {
            True: select(self.templates, DIRECT, "seen") if self.direct_share else (),
            False: select(self.templates, SEQUENTIAL, "seen"),
        }
        prompts = []
        labels = np.full((len(windows), self.targets, self.codes.shape[1]), IGNORE, dtype=np.int64)
        for row, window in enumerate(windows):
            choices = templates[window.direct]
            sequence = self.sequences[window.user]
            history = sequence[max(0, window.end - self.max_history) : window.end]
            history = history[rng.random(len(history)) >= self.history_dropout]
            prompts.append(
                render_ids(
                    choices[rng.integers(len(choices))],
                    self.encode,
                    dataset=self.dataset,
                    user=user_text(window.user, self.user_tokens),
                    history=[self.code_texts[i] for i in history],
                    max_tokens=self.max_tokens,
                )
            )
            upcoming = sequence[window.end : window.end + self.targets]
            labels[row, : len(upcoming)] = self.codes[upcoming]
        labels[labels == self.pad] = IGNORE
        input_ids, attention_mask = pad_prompts(prompts, self.pad)
        return Batch(
            torch.from_numpy(input_ids), torch.from_numpy(attention_mask), torch.from_numpy(labels)
        )

    def encode(self, text: str) -> list[int]:
        """A prompt as token ids."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids


def pad_prompts(
    prompts: Sequence[Sequence[int]], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pads token ids on the right. Both results have the shape [prompts, longest]."""
    longest = max(map(len, prompts))
    ids = np.full((len(prompts), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
        mask[row, : len(prompt)] = 1
    return ids, mask
