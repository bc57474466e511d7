"""How near written texts come to those that users wrote: BLEU-4, ROUGE, and how many differ.

BLEU is a figure of all texts together, not a mean over them: what resampling draws are the counts
of each text that it is made of (https://aclanthology.org/P02-1040). ROUGE is the mean F-measure
(https://aclanthology.org/W04-1013), whose words are runs of a-z and 0-9, so it says nothing about
other scripts. Both are in percent, and neither looks at capitals, which the model does not write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from offline.evaluate.families.figures import FamilyRow, Figure

ROUGES: Final = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
RESAMPLES: Final = 1000
_ORDER: Final = 4


@dataclass(frozen=True)
class TextScores:
    """What texts earn, each by itself."""

    bleu: NDArray[np.int64]
    """[texts, 10] matching and all n-grams for n of 1 to 4, and the lengths of both texts."""
    rouge: NDArray[np.float64]
    """[texts, 3] in percent, in the order of `ROUGES`."""
    texts: tuple[str, ...]

    @classmethod
    def of(cls, written: Sequence[str], wanted: Sequence[str]) -> "TextScores":
        """Compares texts with those that are wanted."""
        bleu, rouge = BLEU(lowercase=True, effective_order=True), RougeScorer(list(ROUGES))
        counts, shares = [], []
        for text, want in zip(written, wanted, strict=True):
            found = bleu.sentence_score(text, [want])
            counts.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
            scores = rouge.score(want, text)
            shares.append([100 * scores[name].fmeasure for name in ROUGES])
        return cls(np.array(counts, np.int64), np.array(shares), tuple(written))

    def row(self, name: str, seed: int = 0) -> FamilyRow:
        """All figures in percent with their intervals, resampling texts; the share of different
        texts is counted, and has none."""
        figures = {"BLEU-4": self._bleu_figure(seed)}
        for column, rouge in enumerate(ROUGES.values()):
            figures[rouge] = Figure.mean(self.rouge[:, column])
        distinct = Figure(100 * len(set(self.texts)) / len(self.texts))
        return FamilyRow(name, {**figures, "distinct": distinct})

    def bleu4(self) -> float:
        """BLEU-4 of all texts."""
        return _bleu4(self.bleu.sum(axis=0))

    def _bleu_figure(self, seed: int) -> Figure:
        drawn = [_bleu4(self.bleu[rows].sum(axis=0)) for rows in self._resamples(seed)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Figure(self.bleu4(), float(low), float(high))

    def _resamples(self, seed: int) -> list[NDArray[np.int64]]:
        rng, count = np.random.default_rng(seed), len(self.texts)
        return [rng.integers(count, size=count) for _ in range(RESAMPLES)]


def _bleu4(counts: NDArray[np.int64]) -> float:
    matching, total = counts[:_ORDER].tolist(), counts[_ORDER : 2 * _ORDER].tolist()
    return float(BLEU.compute_bleu(matching, total, int(counts[-2]), int(counts[-1])).score)
