"""What was seen and what was clicked, since this process began.

Click-through is clicks / impressions of items; hit share is the share of the lists that were seen
of which something was clicked. A collector of metrics reads both when it is asked (`items`,
`lists`), on any thread. Whatever callers send, there are no more labels than no variant,
`MAX_VARIANTS` and `OTHER`, the strategies of `ids.STRATEGIES` and the places of `POSITIONS` make.

Events are counted once they are recorded, and one that was known is not counted again. Several
gateways count what each recorded: add them up.
"""

import threading
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.history.event import CLICK, IMPRESSION, Event, Shown
from gateway.variants.plan import MAX_VARIANTS
from serving.telemetry.labels import OTHER

_STARTS: Final = (1, 2, 3, 4, 6, 11, 21, 51)
POSITIONS: Final = ("1", "2", "3", "4-5", "6-10", "11-20", "21-50", "51-")
"""Those that are counted together."""
MAX_LISTS: Final = 20_000
"""The lists that are remembered, by some 150 bytes each: one that is seen or clicked again after so
many others have come counts once more."""


class Labels(NamedTuple):
    """What counts are told apart by."""

    variant: str
    """Of an experiment; empty for none."""
    strategy: str
    """One of `ids.STRATEGIES`."""
    position: str = ""
    """One of `POSITIONS`; empty where it is a list that is counted."""


@dataclass(frozen=True)
class Count:
    """How much was seen and how much of it clicked."""

    labels: Labels
    seen: int
    clicked: int


def position_label(position: int) -> str:
    """The one of `POSITIONS` that a position, from 1, is counted in."""
    return POSITIONS[max(0, bisect_right(_STARTS, position) - 1)]


class Attribution:
    """Counts of items and of lists, by variant and strategy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._variants: set[str] = set()
        self._counts: dict[str, Counter[Labels]] = {IMPRESSION: Counter(), CLICK: Counter()}
        self._lists: dict[str, Counter[Labels]] = {IMPRESSION: Counter(), CLICK: Counter()}
        self._names: OrderedDict[str, set[str]] = OrderedDict()
        """Of lists: what was counted of them, the latest last."""

    def record(self, events: Iterable[Event]) -> None:
        """Counts events that were not known; those of other types or of no answer are nothing."""
        with self._lock:
            for event in events:
                if event.shown is not None and event.type in self._counts:
                    self._count(event.type, event.shown, event.place)

    def items(self) -> list[Count]:
        """Items that were seen and clicked, by variant, strategy and position."""
        return self._read(self._counts)

    def lists(self) -> list[Count]:
        """Lists of which something was seen, and of which something was clicked, by variant and
        strategy."""
        return self._read(self._lists)

    def _count(self, kind: str, shown: Shown, place: int) -> None:
        labels = Labels(self._variant(shown.variant), shown.strategy)
        self._counts[kind][labels._replace(position=position_label(place))] += 1
        counted = self._names.setdefault(shown.recommendation, set())
        self._names.move_to_end(shown.recommendation)
        if kind not in counted:
            counted.add(kind)
            self._lists[kind][labels] += 1
        if len(self._names) > MAX_LISTS:
            self._names.popitem(last=False)

    def _variant(self, name: str) -> str:
        if not name:
            return name
        if name not in self._variants and len(self._variants) >= MAX_VARIANTS:
            return OTHER
        self._variants.add(name)
        return name

    def _read(self, counts: dict[str, Counter[Labels]]) -> list[Count]:
        with self._lock:
            seen, clicked = counts[IMPRESSION], counts[CLICK]
            return [
                Count(labels, seen[labels], clicked[labels])
                for labels in sorted(seen.keys() | clicked.keys())
            ]
