"""What is recommended of a genre that few items have, which shows whether these are served."""

from collections.abc import Callable

from tandem import Client, filters
from tandem.requests import StrategyName
from tests.processes import wait_until

STRATEGIES: tuple[StrategyName, ...] = ("embedding", "rerank", "generate", "fuse")


def recommended(
    client: Client, strategy: StrategyName, genre: str, *, forbid_degraded: bool = False
) -> list[str]:
    """The items of a genre, sorted."""
    answer = client.recommend(
        history=["i1", "i2"],
        strategy=strategy,
        filter=filters.equals("genre", genre),
        forbid_degraded=forbid_degraded,
    )
    return sorted(item.item_id for item in answer.recommendations)


def wait_for(
    recommended: Callable[[StrategyName, str], list[str]], genre: str, *items: str
) -> None:
    """Waits until every strategy recommends exactly these items of a genre."""
    for strategy in STRATEGIES:
        wait_until(
            lambda s=strategy: recommended(s, genre) == sorted(items),  # type: ignore[misc]
            f"{strategy} to recommend {items} of {genre}",
        )
