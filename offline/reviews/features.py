"""Feature words, and the sentence of a review that explains by one.

An explanation is asked for with a word that it is to be about, such as `strap` or `tone`, as PETER
has it (https://arxiv.org/abs/2105.11601). Which words can be asked for, and which of them a review
is about, is told by counting alone:

- A feature word has three letters or more, is no function word of English, and stands in twenty
  training reviews at least, in a tenth of them at most, and is among the `MOST` most frequent of
  those. In a language other than English the tenth leaves function words out as well.
- A review is about the one of its feature words that is most its item's own: that in how many of
  the item's training reviews it stands, times the logarithm of how rare it is among all reviews, is
  greatest; the earlier of two.
- The explanation is the first sentence of the review that holds the word; the first sentence of all
  where the review has none.

What is counted are training reviews, so a review that is asked about changes nothing.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

MOST: Final = 1000
LEAST_REVIEWS: Final = 20
LARGEST_SHARE: Final = 0.1

_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")


def words_of(text: str) -> list[str]:
    """The words of a text that can be features, lower case, in order."""
    return [word for word in _WORD.findall(text.lower()) if word not in ENGLISH_STOP_WORDS]


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its end mark."""
    return [part for part in _SENTENCE_END.split(text.strip()) if _WORD.search(part)]


@dataclass(frozen=True)
class Features:
    """The feature words of a data set."""

    weight: Mapping[str, float]
    """Of each word, the logarithm of how rare it is."""
    of_item: Mapping[int, Counter[str]]
    """In how many of an item's training reviews each word stands."""

    @classmethod
    def of(
        cls,
        reviews: Iterable[tuple[int, str]],
        least: int = LEAST_REVIEWS,
        largest_share: float = LARGEST_SHARE,
    ) -> "Features":
        """Counts the training reviews, each with its item.

        Args:
            reviews: items and texts.
            least: reviews that a feature word stands in, at least.
            largest_share: of the reviews, at most.
        """
        found: Counter[str] = Counter()
        of_item: defaultdict[int, Counter[str]] = defaultdict(Counter)
        count = 0
        for item, text in reviews:
            words = set(words_of(text))
            found.update(words)
            of_item[item].update(words)
            count += 1
        fitting = [w for w, n in found.items() if least <= n <= max(least, largest_share * count)]
        kept = sorted(fitting, key=lambda word: (-found[word], word))[:MOST]
        weight = {word: math.log(count / found[word]) for word in kept}
        return cls(weight, of_item)

    def feature(self, item: int, text: str) -> str | None:
        """The word that a review of an item is about, if any."""
        known = [word for word in words_of(text) if word in self.weight]
        return max(known, key=lambda word: self._own(item, word), default=None)

    def explanation(self, item: int, text: str) -> tuple[str | None, str]:
        """The word that a review is about, and the sentence that holds it; perhaps empty."""
        feature = self.feature(item, text)
        parts = sentences(text)
        if feature is None:
            return None, next(iter(parts), "")
        return feature, next(part for part in parts if feature in words_of(part))

    def top(self, item: int, most: int) -> Sequence[str]:
        """The words that are most an item's own, best first."""
        known = [word for word in self.of_item.get(item, ()) if word in self.weight]
        return sorted(known, key=lambda word: (-self._own(item, word), word))[:most]

    def _own(self, item: int, word: str) -> float:
        counts = self.of_item.get(item)
        return (counts[word] if counts else 0) * self.weight[word]
