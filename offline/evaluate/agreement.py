"""Whether two ways of making the same lists agree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from offline.evaluate.protocol import RankedList
from offline.metrics import Ranking

TOLERANCE: Final = 1e-4
"""Between two scores of an item, which are sums of log-probabilities: the order in which float32
numbers are added up depends on the batch that they are in."""


@dataclass(frozen=True)
class Agreement:
    """How many lists of two makings are equal."""

    lists: int
    equal: int

    @classmethod
    def of(
        cls,
        these: Mapping[Ranking, Sequence[RankedList]],
        those: Mapping[Ranking, Sequence[RankedList]],
    ) -> "Agreement":
        """Compares the lists of equal rankings, in order."""
        equal = [
            are_equal(one, other)
            for ranking, lists in these.items()
            for one, other in zip(lists, those[ranking], strict=True)
        ]
        return cls(len(equal), sum(equal))

    @property
    def share(self) -> float:
        """Of equal lists; 1 where there is none."""
        return self.equal / self.lists if self.lists else 1.0

    def to_json(self) -> dict[str, float]:
        """The counts, the share, and what counts as equal."""
        return {**asdict(self), "share": self.share, "tolerance": TOLERANCE}


def are_equal(one: RankedList, other: RankedList) -> bool:
    """Whether two lists, each by descending score, are the same but for ties within float noise.

    They are as long, the two scores of every item are within `TOLERANCE`, and an item that only
    one list has is within it of the other's last. So an item can only stand elsewhere where its
    neighbors have nearly the same score.
    """
    if len(one.items) != len(other.items):
        return False
    if not len(one.items):
        return True
    ours, theirs = one.by_item(), other.by_item()
    for item in ours.keys() | theirs.keys():
        score = ours.get(item, float(one.scores[-1]))
        if abs(score - theirs.get(item, float(other.scores[-1]))) > TOLERANCE:
            return False
    return True
