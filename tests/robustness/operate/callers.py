"""The callers of the soak: mixed calls of the gateway at a rate, and changes of the catalog."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

import grpc

from tandem import AsyncCatalogClient, AsyncClient, Error, Item, event, filters
from tandem.requests import StrategyName, recommend_request
from tandem.v1 import recommendation_service_pb2 as pb
from tests.robustness.operate.tally import Tally

STRATEGIES: Final[Sequence[StrategyName]] = ("embedding", "rerank", "generate", "fuse")
SHARES: Final = {"recommend": 60, "similar": 20, "events": 15, "batch": 5}
"""How often each kind of call is drawn."""
BATCH: Final = 8
"""Requests of a `BatchRecommend`."""
CUT_OFF: Final = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}
"""What grpc says, without a server's reason, where a connection was cut; INTERNAL now and then of a
stream, "Internal error from Core"."""
NEW_ITEMS: Final = 20
"""That come and go."""
LOOKS: Final = 200
LOOK_SECONDS: Final = 0.05
"""How often it is looked, in the end, whether the generator has followed."""
TEXTS: Final = ("Film a query", "A new film")


class Callers:
    """Calls at random, and counts what comes back.

    Args:
        users: that have a history in the bundle.
        items: that are in every version.
        timeout: seconds that a call may take.
        seed: of what is drawn.
    """

    def __init__(
        self, users: Sequence[str], items: Sequence[str], *, timeout: float, seed: int
    ) -> None:
        self.tally = Tally()
        self._users = users
        self._items = items
        self._timeout = timeout
        self._rng = random.Random(seed)  # noqa: S311 - no secret
        self._numbers = itertools.count()
        self._recorded: dict[str, str] = {}
        """User → the event that was acknowledged last."""
        self._kinds = {
            "recommend": self._recommend,
            "similar": self._similar,
            "events": self._events,
            "batch": self._batch,
        }

    async def call_until(
        self, over: Callable[[], bool], client: AsyncClient, rate: float, *, is_cut: bool
    ) -> None:
        """One caller of several, who share a rate; each call is due at its time.

        Args:
            over: whether to end.
            client: to call with.
            rate: calls a second, of all callers together.
            is_cut: whether the client's connections are cut, so that its calls may fail.
        """
        began, first = perf_counter(), next(self._numbers)
        while not over():
            due = began + (next(self._numbers) - first) / rate
            await asyncio.sleep(max(0.0, due - perf_counter()))
            (kind,) = self._rng.choices(list(SHARES), list(SHARES.values()))
            self.tally.calls[kind] += 1
            try:
                await self._kinds[kind](client)
            except Error as error:
                if is_cut and error.code in CUT_OFF and not error.reason:
                    self.tally.cut_off += 1
                else:
                    self.tally.failures[f"{kind}: {error}"] += 1
            if not is_cut:
                self.tally.took(due)

    async def _recommend(self, client: AsyncClient) -> None:
        strategy = self._rng.choice(STRATEGIES)
        answer = await client.recommend(
            self._rng.choice(self._users), strategy=strategy, timeout=self._timeout
        )
        self.tally.answered(f"recommend {strategy}", answer)

    async def _similar(self, client: AsyncClient) -> None:
        await client.similar_items([self._rng.choice(self._items)], timeout=self._timeout)

    async def _events(self, client: AsyncClient) -> None:
        made = event(self._rng.choice(self._users), self._rng.choice(self._items))
        await client.record_events([made], timeout=self._timeout)
        self._recorded[made.user_id] = made.event_id

    async def _batch(self, client: AsyncClient) -> None:
        requests = [
            pb.BatchRecommendRequest(
                id=str(number), request=recommend_request(self._rng.choice(self._users))
            )
            for number in range(BATCH)
        ]
        left = Counter(request.id for request in requests)
        async for each in client.batch_recommend(requests, timeout=BATCH * self._timeout):
            left[each.id] -= 1
            if each.HasField("error"):
                self.tally.failures[f"batch: {each.error.message}"] += 1
            else:
                self.tally.answered("batch", each.response)
        if any(left.values()):
            missing, again = sum(n > 0 for n in left.values()), sum(n < 0 for n in left.values())
            self.tally.failures[f"batch: {missing} without an answer, {again} with two"] += 1

    async def lost_events(self, client: AsyncClient) -> list[str]:
        """The users whose event that was acknowledged last is not in their history."""
        lost = []
        for user, event_id in self._recorded.items():
            page = await client.get_history(user, timeout=self._timeout)
            if event_id not in {each.event_id for each in page.events}:
                lost.append(user)
        return lost


class Writer:
    """Adds, replaces and deletes items, one change after another.

    Args:
        catalog: the client of the candidate.
        items: that are in every version.
        tally: where the changes are counted.
        timeout: seconds that a change may take.
        seed: of what is changed.
    """

    def __init__(
        self,
        catalog: AsyncCatalogClient,
        items: Sequence[str],
        tally: Tally,
        *,
        timeout: float,
        seed: int,
    ) -> None:
        self._catalog = catalog
        self._items = items
        self._tally = tally
        self._timeout = timeout
        self._rng = random.Random(seed)  # noqa: S311 - no secret
        self._titles: dict[str, str] = {}
        """Of the items that are there, as was acknowledged."""

    async def change_until(self, over: Callable[[], bool], per_second: float) -> None:
        """Changes again and again."""
        while not over():
            item_id = f"new-{self._rng.randrange(NEW_ITEMS)}"
            kind = "delete" if self._rng.random() < 0.3 else "upsert"
            self._tally.calls[kind] += 1
            try:
                await (self._delete if kind == "delete" else self._upsert)(item_id)
            except Error as error:
                self._tally.failures[f"{kind}: {error}"] += 1
            await asyncio.sleep(1 / per_second)

    async def _upsert(self, item_id: str) -> None:
        title = f"Change {self._tally.calls.total()}"
        item = Item(item_id, self._rng.choice(TEXTS), title, {"genre": "New"})
        await self._catalog.upsert_items([item], timeout=self._timeout)
        self._titles[item_id] = title

    async def _delete(self, item_id: str) -> None:
        await self._catalog.delete_items([item_id], timeout=self._timeout)
        self._titles.pop(item_id, None)

    async def differences(self, client: AsyncClient) -> list[str]:
        """How catalog and recommendations differ from what was acknowledged.

        Args:
            client: of the gateway.
        """
        names = [f"new-{number}" for number in range(NEW_ITEMS)]
        found = await self._catalog.get_items(names, timeout=self._timeout)
        differences = []
        if (titles := {item.item_id: item.title for item in found.items}) != self._titles:
            differences.append(f"catalog: {titles}, acknowledged: {self._titles}")
        for strategy in STRATEGIES if self._titles else ():
            listed = await self._recommended(client, strategy)
            if listed != self._titles.keys():
                differences.append(f"{strategy}: {listed}, acknowledged: {set(self._titles)}")
        return differences

    async def _recommended(self, client: AsyncClient, strategy: StrategyName) -> set[str]:
        """The new items that a strategy lists, once it lists all, or else after a while."""
        listed: set[str] = set()
        for _ in range(LOOKS):
            with contextlib.suppress(Error):  # such as of an attribute that is not known yet
                answer = await client.recommend(
                    history=self._items[:1],
                    strategy=strategy,
                    max_results=2 * NEW_ITEMS,
                    filter=filters.equals("genre", "New"),
                    timeout=self._timeout,
                )
                listed = {item.item_id for item in answer.recommendations}
                if listed == self._titles.keys():
                    break
            await asyncio.sleep(LOOK_SECONDS)
        return listed
