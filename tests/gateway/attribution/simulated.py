"""Users who look at lists and click by known chances, and what a gateway is told of it."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import tandem
from gateway.attribution.counts import position_label
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import STRATEGIES, Stack

USERS = ("ann", "bob", "dee")
CLICKS = {"rerank": 0.5, "generate": 0.3, "fuse": 0.7, "embedding": 0.1}
"""The chance of a click at position 1; at others it is that divided by the position."""


@dataclass
class Truth:
    """What happened: by strategy and position, and by strategy."""

    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    clicked: Counter[tuple[str, int]] = field(default_factory=Counter)
    lists_seen: Counter[str] = field(default_factory=Counter)
    lists_clicked: Counter[str] = field(default_factory=Counter)
    events: list[pb.Event] = field(default_factory=list)

    def labelled(self, counts: Counter[tuple[str, int]]) -> Counter[tuple[str, str]]:
        """By strategy and the label of the position."""
        found: Counter[tuple[str, str]] = Counter()
        for (strategy, position), count in counts.items():
            found[strategy, position_label(position)] += count
        return found


async def simulate(stack: Stack, lists: int, seed: int = 0) -> Truth:
    """Shows lists; the events of it are not sent yet."""
    dice, truth = random.Random(seed), Truth()  # noqa: S311 - no secret
    for number in range(lists):
        strategy = dice.choice(STRATEGIES)
        answer = await stack.client.recommend(
            dice.choice(USERS), history=["i0", "i1"], strategy=strategy, max_results=8
        )
        user = dice.choice(USERS)  # who has logged in since
        seen = dice.randint(0, len(answer.recommendations))
        truth.events += _look(dice, truth, answer, strategy, user, seen, number)
    dice.shuffle(truth.events)
    return truth


def _look(
    dice: random.Random,
    truth: Truth,
    answer: pb.RecommendResponse,
    strategy: StrategyName,
    user: str,
    seen: int,
    number: int,
) -> Iterator[pb.Event]:
    truth.lists_seen[strategy] += seen > 0
    hit = False
    for position, item in enumerate(answer.recommendations[:seen], start=1):
        kinds = ["impression"]
        truth.seen[strategy, position] += 1
        if dice.random() < CLICKS[strategy] / position:
            kinds.append("click")
            truth.clicked[strategy, position] += 1
            hit = True
        for kind in kinds:
            yield tandem.event(
                user,
                item.item_id,
                event_id=f"{kind} {number} {position}",
                type=kind,
                recommendation_id=answer.recommendation_id,
            )
    truth.lists_clicked[strategy] += hit
