"""What the families that write text learn from and are tested on, as plain texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from offline.dataset.reviews import Reviews
from offline.dataset.schema import Dataset
from offline.reviews.features import Features
from offline.reviews.parts import Part, parts_of
from services.generator.text.rendering import TextQuestion

TextFamily = Literal["explanation", "review"]


@dataclass(frozen=True)
class TextExample:
    """A question about an interaction, and the text that answers it."""

    user: int
    item: int
    history: NDArray[np.int32]
    """Items of the user before this one, oldest first."""
    feature: str | None
    """What an explanation is to be about, if anything."""
    text: str
    """The review that is to be summed up; empty for an explanation."""
    target: str

    def question(self, *, named: bool = True, told: bool = True) -> TextQuestion:
        """What a prompt may tell.

        Args:
            named: whether the user.
            told: whether the feature.
        """
        return TextQuestion(
            user=self.user if named else None,
            item=self.item,
            history=self.history.tolist(),
            feature=self.feature if told else None,
            text=self.text,
        )


@dataclass(frozen=True)
class Written:
    """The reviews of a dataset, and what each is for."""

    data: Dataset
    reviews: Reviews
    parts: NDArray[np.int8]
    """[interactions] the `Part` of each."""
    features: Features

    @classmethod
    def of(cls, data: Dataset, reviews: Reviews) -> "Written":
        """Those of a dataset that was loaded without them."""
        parts = parts_of(data)
        training = np.flatnonzero(parts == Part.TRAINING)
        features = Features.of((int(data.item_index[row]), reviews.texts[row]) for row in training)
        return cls(data, reviews, parts, features)

    def examples(self, family: TextFamily, part: Part) -> list[TextExample]:
        """The questions of a family, in the order of the interactions."""
        make = {"explanation": self._explanation, "review": self._summary}[family]
        made = [make(user, int(row)) for user, row in self._rows(part)]
        return [example for example in made if example.target]

    def training_texts(self) -> Sequence[str]:
        """All texts that are learned from: what a tokenizer may know."""
        rows = np.flatnonzero(self.parts == Part.TRAINING)
        both = (self.reviews.texts, self.reviews.summaries)
        return [texts[row] for texts in both for row in rows if texts[row]]

    def _rows(self, part: Part) -> list[tuple[int, int]]:
        users = np.repeat(np.arange(len(self.data.user_ids)), np.diff(self.data.indptr))
        return [(int(users[row]), int(row)) for row in np.flatnonzero(self.parts == part)]

    def _explanation(self, user: int, row: int) -> TextExample:
        item = int(self.data.item_index[row])
        feature, sentence = self.features.explanation(item, self.reviews.texts[row])
        return TextExample(user, item, self._before(user, row), feature, "", sentence)

    def _summary(self, user: int, row: int) -> TextExample:
        text, summary = self.reviews.texts[row], self.reviews.summaries[row]
        item = int(self.data.item_index[row])
        target = summary if text else ""
        return TextExample(user, item, self._before(user, row), None, text, target)

    def _before(self, user: int, row: int) -> NDArray[np.int32]:
        return self.data.item_index[self.data.indptr[user] : row]
