"""The families that write text, as a model that reads whole items learns them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast, get_args

import numpy as np
from tokenizers import Tokenizer

from offline.generator.config import FamilyShares, TextTrainConfig
from offline.generator.items.model import ItemT5
from offline.generator.items.texts import text_loss
from offline.generator.texts.family import TextFamily
from offline.generator.tokenizer import EOS
from offline.reviews.examples import TextFamily as FamilyName
from offline.reviews.examples import Written
from offline.reviews.parts import Part
from services.generator.prompts import Template, select, user_text
from services.generator.text.rendering import PromptRenderer, best_template

SOME: Final = 32
"""Questions of each family that stand for all."""
NAMES: Final[tuple[FamilyName, ...]] = get_args(FamilyName)


@dataclass(frozen=True)
class TextMaterial:
    """What they are made of."""

    written: Written
    templates: Sequence[Template]
    tokenizer: Tokenizer
    user_tokens: int
    max_tokens: int
    """Ids of a prompt, at most."""
    config: TextTrainConfig

    def prompts(self) -> PromptRenderer:
        """How a model that reads whole items is asked: an item is its position behind the words."""
        words = self.tokenizer.get_vocab_size()
        return PromptRenderer(
            self.tokenizer,
            self.written.data.name,
            self.user_tokens,
            lambda item: (words + item,),
            self.max_tokens,
        )

    def families(self, model: ItemT5, shares: FamilyShares) -> list[tuple[TextFamily, float]]:
        """Those that have a share of the training, each with it; the model writes words alone."""
        if self.user_tokens:
            first = self.tokenizer.token_to_id(user_text(0, self.user_tokens))
            model.t5.config.words = first
        return [
            (self._family(model, name), share)
            for name in NAMES
            if (share := getattr(shares, name)) > 0
        ]

    def some_prompts(self, seed: int) -> list[list[int]]:
        """Questions about training interactions, of each family, as they are served."""
        rng, found = np.random.default_rng(seed), []
        for name in NAMES:
            examples = self.written.examples(name, Part.TRAINING)
            templates = select(self.templates, name, "seen")
            for place in rng.permutation(len(examples))[:SOME]:
                question = examples[int(place)].question()
                found.append(self.prompts().ids(best_template(templates, question), question))
        return found

    def _family(self, model: ItemT5, name: FamilyName) -> TextFamily:
        return TextFamily(
            text_loss=partial(text_loss, model),
            examples=self.written.examples(name, Part.TRAINING),
            templates=select(self.templates, name, "seen"),
            prompts=self.prompts(),
            batch_size=self.config.batch_size,
            max_text_tokens=self.config.max_tokens,
            eos=cast(int, self.tokenizer.token_to_id(EOS)),
        )
