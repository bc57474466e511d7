"""How a list is made: calls of the two services, and what takes the place of one that fails.

EMBEDDING   Search
RERANK      Search ────▶ Rerank ──▶ blend
GENERATE    Generate
FUSE        Search ────▶ Rank ────▶ blend

Rank generates and reranks at once: the model reads the user one time. Generating beside the search
and reranking afterwards would keep the search off the path, but it is the shortest of the three: on
the demo's bundle, two cores, one caller waits 7.5 ms this way and 10 that way, and eight callers
get a third more answers.

Where the bundle gives the generator no weight, reranking and fusing would return the shortlist in
its own order, so that is what they do, without a call.

Without the generator there is the order of retrieval, without retrieval what the generator finds
in the whole catalog, and without both what is popular. A step that something could take the place
of leaves time for that; where the caller forbids it, a step may take all the time there is.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from core.errors import TandemError
from gateway.deadline import Deadline
from gateway.domain import (
    Answered,
    Fallback,
    Proof,
    Ranked,
    Recommended,
    ResolvedQuery,
    Scored,
    Strategy,
)
from gateway.recommend.blend import Weights, blend, generated_only, retrieved_only
from gateway.recommend.services import Services
from gateway.recommend.trace import RequestTrace

FIRST_SHARE: Final = 0.6
"""Of the time that is left, for a step that another call follows or may take the place of."""
LAST_SHARE: Final = 0.9
"""For a last call: what takes its place is at hand."""


Generates = Callable[[ResolvedQuery, int, Deadline], Awaitable[Answered[Ranked]]]
"""Generates as many items for a request, by a deadline."""


@dataclass(frozen=True)
class StrategyCall:
    """What a strategy works with, for one request."""

    request: ResolvedQuery
    services: Services
    trace: RequestTrace
    count: int
    """How many items to find."""
    shortlist: int
    """How many items to shortlist for the generator."""
    generates: Generates | None = None
    """Generates the list; None for the generator itself."""

    async def search(self, count: int, share: float) -> Ranked:
        """The shortlist."""
        search = partial(self.services.candidate.search, self.request, count)
        found = await self.trace.ask("search", share, search)
        self.trace.ranked["search"] = found.items
        return found

    async def generate(self, share: float) -> Ranked:
        """The generated list."""
        generates = self.generates or self.services.generator.generate
        generate = partial(generates, self.request, self.count)
        found = await self.trace.ask("generate", share, generate)
        self.trace.ranked["generate"] = found.items
        return found

    async def rerank(self, items: Sequence[str]) -> tuple[Scored, ...]:
        """The generator's scores of given items, of which there may be none."""
        if not items:
            return ()
        rerank = partial(self.services.generator.rerank, self.request, items)
        found = await self.trace.ask("rerank", LAST_SHARE, rerank)
        self.trace.ranked["rerank"] = found.items
        return found.items

    async def rank(self, items: Sequence[str]) -> tuple[Ranked, Ranked]:
        """The generated list, and the generator's scores of given items."""
        rank = partial(self.services.generator.rank, self.request, items, self.count)
        generated, reranked = await self.trace.ask("rank", LAST_SHARE, rank)
        self.trace.ranked |= {"generate": generated.items, "rerank": reranked.items}
        return generated, reranked

    def blend(
        self, retrieved: Sequence[Scored], generated: Sequence[Scored], weights: Weights
    ) -> list[Recommended]:
        """Both, as one ranking."""
        with self.trace.watch.stage("blend"):
            items = blend(retrieved, generated, weights)
        self.trace.ranked["blend"] = items
        return items


@dataclass(frozen=True)
class Outcome:
    """All that a strategy found, best first, and the unknown items of the history."""

    strategy: Strategy | None
    """The one that found it, after whatever failed; None for what is popular."""
    items: Sequence[Recommended]
    missing: Sequence[str]
    sources: Sequence[Ranked] = ()
    """What the items are from; each source knows the fields of those that it found."""

    def fields_of(self, item_id: str) -> bytes:
        """What an item is; nothing where that was not asked for."""
        source = self._source(item_id)
        return source.fields[item_id] if source else b""

    def is_behind(self, item_id: str, sequence: int) -> bool:
        """Whether an item's fields are from a catalog that has yet to come to a sequence."""
        source = self._source(item_id)
        return source is not None and source.sequence is not None and source.sequence < sequence

    def proof_of(self, items: Sequence[Recommended]) -> Proof | None:
        """What is certain of a list, where it is the best of what was generated alone."""
        if self.strategy is not Strategy.GENERATE:
            return None
        (generated,) = self.sources
        listed = [item.item_id for item in items]
        if generated.proof is None or listed != [
            item.item_id for item in generated.items[: len(listed)]
        ]:
            return None
        return generated.proof.of_first(len(listed), len(generated.items))

    def _source(self, item_id: str) -> Ranked | None:
        return next((source for source in self.sources if item_id in source.fields), None)


async def embedding(call: StrategyCall) -> Outcome:
    """The candidate service alone."""
    try:
        shortlist = await call.search(call.count, FIRST_SHARE)
    except TandemError as error:
        call.trace.do_without("search", error, Fallback.GENERATION)
        return await _generated(call)
    return _retrieval(shortlist)


async def rerank(call: StrategyCall) -> Outcome:
    """A shortlist, reordered with the generator's scores; as it is where these count nothing."""
    return await _blended(call, Strategy.RERANK, _reranked)


async def generate(call: StrategyCall) -> Outcome:
    """The generator alone, over the whole catalog."""
    try:
        generated = await call.generate(FIRST_SHARE)
    except TandemError as error:
        call.trace.do_without("generate", error, Fallback.RETRIEVAL)
        return await _retrieved(call)
    return _generation(generated)


async def fuse(call: StrategyCall) -> Outcome:
    """A shortlist and a generated list, merged; the generator's scores of both are comparable."""
    return await _blended(call, Strategy.FUSE, _merged)


STRATEGIES: Final[Mapping[Strategy, Callable[[StrategyCall], Awaitable[Outcome]]]] = {
    Strategy.EMBEDDING: embedding,
    Strategy.RERANK: rerank,
    Strategy.GENERATE: generate,
    Strategy.FUSE: fuse,
}


async def _blended(
    call: StrategyCall,
    strategy: Strategy,
    blended: Callable[[StrategyCall, Ranked, Weights], Awaitable[Outcome]],
) -> Outcome:
    """A shortlist, blended with what the generator makes of it, if that counts."""
    weights = call.services.weights[strategy]
    if not weights.generator:
        return await embedding(call)
    try:
        shortlist = await call.search(call.shortlist, FIRST_SHARE)
    except TandemError as error:
        call.trace.do_without("search", error, Fallback.GENERATION)
        return await _generated(call)
    return await blended(call, shortlist, weights)


async def _reranked(call: StrategyCall, shortlist: Ranked, weights: Weights) -> Outcome:
    try:
        scores = await call.rerank([item.item_id for item in shortlist.items])
    except TandemError as error:
        call.trace.do_without("rerank", error, Fallback.RETRIEVAL)
        return _retrieval(shortlist)
    items = call.blend(shortlist.items, scores, weights)
    return Outcome(Strategy.RERANK, items, shortlist.missing, (shortlist,))


async def _merged(call: StrategyCall, shortlist: Ranked, weights: Weights) -> Outcome:
    if not shortlist.items:
        return await generate(call)
    try:
        generated, reranked = await call.rank([item.item_id for item in shortlist.items])
    except TandemError as error:
        call.trace.do_without("rank", error, Fallback.RETRIEVAL)
        return _retrieval(shortlist)
    items = call.blend(shortlist.items, (*generated.items, *reranked.items), weights)
    missing = (*shortlist.missing, *generated.missing)
    return Outcome(Strategy.FUSE, items, missing, (shortlist, generated))


def _retrieval(shortlist: Ranked) -> Outcome:
    items = retrieved_only(shortlist.items)
    return Outcome(Strategy.EMBEDDING, items, shortlist.missing, (shortlist,))


def _generation(generated: Ranked) -> Outcome:
    items = generated_only(generated.items)
    return Outcome(Strategy.GENERATE, items, generated.missing, (generated,))


async def _generated(call: StrategyCall) -> Outcome:
    """For retrieval that failed."""
    try:
        generated = await call.generate(LAST_SHARE)
    except TandemError as error:
        call.trace.do_without("generate", error, Fallback.POPULARITY)
        return _popular(call)
    return _generation(generated)


async def _retrieved(call: StrategyCall) -> Outcome:
    """For generation that failed."""
    try:
        shortlist = await call.search(call.count, LAST_SHARE)
    except TandemError as error:
        call.trace.do_without("search", error, Fallback.POPULARITY)
        return _popular(call)
    return _retrieval(shortlist)


def _popular(call: StrategyCall) -> Outcome:
    """For services that both failed."""
    with call.trace.watch.stage("popularity"):
        items = call.services.popularity.best(call.request, call.count)
    call.trace.ranked["popularity"] = items
    popular = Ranked((), fields=call.services.popularity.fields, sequence=0)
    return Outcome(None, items, (), (popular,))
