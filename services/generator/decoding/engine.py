"""The generator engine: prompts in, ranked items out.

Blocking and thread-safe: ONNX Runtime releases the interpreter's lock while it runs, and one
session serves any number of threads. Items are positions in the catalog throughout.

A query is answered in two steps. `prepare` renders its prompt and marks what it allows, which needs
no model; `run` answers the jobs of one group together. An answer does not depend on the jobs that
it was batched with.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.catalog import ItemArray
from core.manifest import Precision
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.arrays import Prompts
from services.generator.decoding.parts import GeneratorParts, load_catalog, load_parts
from services.generator.decoding.providers import Compute, choose_precision
from services.generator.decoding.searching import Generation, Ranked, Search, search
from services.generator.decoding.trie import PrefixTree, Trie
from services.generator.prompts import Template

__all__ = [
    "DecodingJob", "Generation", "GeneratorEngine", "Ranked", "RankingAnswer", "RankingQuery",
    "UserContext",
]  # fmt: skip

MOST_PREFIXES: Final = 1_024
"""That the decoder reads of a shortlist in one pass: each attends to all others, so memory grows
with their square. A longer shortlist is scored in parts, which changes no score."""

T = TypeVar("T")


@dataclass(frozen=True)
class UserContext:
    """What the model is told about a user."""

    user: int | None
    """The user's position in the bundle, or None for an unknown user."""
    history: ItemArray
    """Oldest first."""


@dataclass(frozen=True)
class RankingQuery:
    """What is asked about one user: items to generate, items to score, or both; or rows."""

    context: UserContext
    generation: Generation | None = None
    shortlist: ItemArray | None = None
    """Items to score."""
    rows: tuple[Generation, ...] = ()
    """Several lists to generate, instead of one."""
    apart: bool = True
    """Whether an item may be in one row only: the first that it is found for."""
    beams: int = 0
    """Of each list, at least."""


@dataclass(frozen=True)
class RankingAnswer:
    """An answer to a query; a part is None where it was not asked for."""

    generated: Ranked | None
    """As many items as were asked for, or all allowed ones where there are fewer."""
    reranked: Ranked | None
    """The shortlist by its exact scores; ties keep the query's order."""
    lists: tuple[Ranked, ...] = ()
    """What was generated, or the rows: each as long as was asked for, or with all items that are
    allowed and in no row before it."""


@dataclass(frozen=True)
class DecodingJob:
    """A query that is ready to run."""

    snapshot: CodedCatalog
    """What its positions refer to."""
    prompt: Sequence[int]
    """Token ids; for a model that reads whole items, an item is the size of the vocabulary plus
    its position."""
    seen: ItemArray
    """What the history holds."""
    search: Search | None
    shortlist: ItemArray | None
    trees: tuple[PrefixTree, ...] = ()
    """Of the parts of the shortlist, in its order; each is read in one pass."""

    @property
    def tokens(self) -> int:
        """The length of the prompt."""
        return len(self.prompt)

    @property
    def prefixes(self) -> int:
        """How many prefixes of codes one pass reads at most; its memory grows with their
        square."""
        return max((len(tree.token) for tree in self.trees), default=0)

    @property
    def group(self) -> Hashable:
        """Jobs of equal groups may run together.

        More beams search further: that they are part of it keeps answers independent of company.
        A short shortlist would be padded to a long one: those share a batch that have as many
        parts, and whose numbers of prefixes, and of items, lie between the same powers of two.
        """
        if self.search is not None and len(self.search.wishes) > 1:
            return id(self)  # a page of rows keeps the model busy by itself
        beams = None if self.search is None else self.search.beams
        if not self.trees:
            return self.snapshot.version, beams
        items = max(len(tree.path) for tree in self.trees)
        sizes = len(self.trees), self.prefixes.bit_length(), items.bit_length()
        return self.snapshot.version, beams, *sizes


class GeneratorEngine:
    """The P5 model of one bundle over one version of its catalog, and never changes.

    Args:
        parts: the model, which engines of other versions share.
        snapshot: the version of the catalog.
    """

    def __init__(self, parts: GeneratorParts, snapshot: CodedCatalog) -> None:
        self.parts = parts
        self.snapshot = snapshot

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        compute: Compute | None = None,
        precision: Literal["auto"] | Precision = "auto",
    ) -> "GeneratorEngine":
        """Loads the engine of a bundle.

        Args:
            bundle: a verified bundle.
            compute: where the model runs; by default on all cores.
            precision: one that the bundle holds, or the fastest of those that suit the device.

        Raises:
            BundleError: the bundle's files do not belong together; the message says which.
            SettingsError: the precision cannot be had.
        """
        compute = compute or Compute()
        chosen = choose_precision(precision, bundle.manifest.generator.precisions, compute)
        parts = load_parts(bundle, chosen, compute)
        return cls(parts, load_catalog(bundle, parts.tokenizer))

    def over(self, snapshot: CodedCatalog) -> "GeneratorEngine":
        """The same model over another version of the catalog."""
        return GeneratorEngine(self.parts, snapshot)

    def with_template(self, template: Template) -> "GeneratorEngine":
        """The same model, asked with another prompt."""
        return GeneratorEngine(replace(self.parts, template=template), self.snapshot)

    def untold(self) -> "GeneratorEngine":
        """The same model, not told what the history holds, beside reading it.

        For evaluation: it shows what the learned number for seen items is worth.
        """
        return GeneratorEngine(replace(self.parts, told_seen=False), self.snapshot)

    def prepare(self, query: RankingQuery) -> DecodingJob:
        """Does the part of a query's work that needs no model."""
        search, trie = None, self.snapshot.trie
        wishes = query.rows or ([] if query.generation is None else [query.generation])
        if wishes:
            beams = self.beams(max(query.beams, *(wish.count for wish in wishes)))
            search = Search.of(trie, wishes, beams, apart=query.apart and len(wishes) > 1)
        return DecodingJob(
            snapshot=self.snapshot,
            prompt=self.render(query.context),
            seen=query.context.history,
            search=search,
            shortlist=query.shortlist,
            trees=() if query.shortlist is None else _parts(trie, query.shortlist),
        )

    def run(self, jobs: Sequence[DecodingJob]) -> list[RankingAnswer]:
        """Answers jobs of one group, in order, prepared over this version or over another."""
        graphs = self.parts.graphs
        prompts = Prompts.of(
            [job.prompt for job in jobs],
            self.parts.section.pad_token,
            [job.seen for job in jobs] if self.parts.told_seen else (),
        )
        encoded = graphs.encode(prompts, jobs[0].snapshot)
        lists: list[tuple[Ranked, ...]] = [()] * len(jobs)
        reranked: list[Ranked | None] = [None] * len(jobs)
        if searches := _all([job.search for job in jobs]):
            lists = search(partial(graphs.generate, encoded), jobs[0].snapshot.trie, searches)
        if jobs[0].trees:
            passes = [
                graphs.rerank(encoded, trees)
                for trees in zip(*(job.trees for job in jobs), strict=True)
            ]
            for row, job in enumerate(jobs):
                own = zip(passes, job.trees, strict=True)
                scores = np.concatenate([found[row, : len(tree.path)] for found, tree in own])
                reranked[row] = _by_score(job.shortlist, scores)
        return [
            RankingAnswer(found[0] if len(found) == 1 else None, scored, found)
            for found, scored in zip(lists, reranked, strict=True)
        ]

    def answer(self, queries: Sequence[RankingQuery]) -> list[RankingAnswer]:
        """Answers queries, those of one kind together."""
        groups: dict[Hashable, list[tuple[int, DecodingJob]]] = {}
        for place, query in enumerate(queries):
            job = self.prepare(query)
            groups.setdefault(job.group, []).append((place, job))
        answers: dict[int, RankingAnswer] = {}
        for members in groups.values():
            places, jobs = zip(*members, strict=True)
            answers.update(zip(places, self.run(jobs), strict=True))
        return [answers[place] for place in range(len(queries))]

    def generate(self, queries: Sequence[RankingQuery]) -> list[Ranked]:
        """What `answer` generates, for queries that all have a generation."""
        return _all([answer.generated for answer in self.answer(queries)])

    def rerank(self, queries: Sequence[RankingQuery]) -> list[Ranked]:
        """What `answer` reranks, for queries that all have a shortlist."""
        return _all([answer.reranked for answer in self.answer(queries)])

    def render(self, context: UserContext) -> list[int]:
        """The prompt about a user, as token ids."""
        parts = self.parts
        newest = context.history[-parts.section.max_history :]
        # Without a history a user may be known by name, if the model was taught it.
        template = parts.template if len(newest) or not parts.names(context.user) else parts.direct
        if parts.section.inputs == "tokens":
            texts = self.snapshot.code_texts
            return parts.words(template, context.user, [texts[i] for i in newest])
        items: list[int] = (newest + parts.section.vocabulary).tolist()
        return parts.words(template, context.user) + items

    def words(self) -> list[int]:
        """The prompt before a history, as token ids, of a model that reads whole items."""
        return self.parts.words(self.parts.template, None)

    def beams(self, count: int) -> int:
        """Beams to find so many items with: few distinct numbers, so that batches fill."""
        step = self.parts.section.beams
        return -(-max(count, 1) // step) * step


def _all(values: Sequence[T | None]) -> list[T]:
    """The values; a group's jobs all have one, or none of them has."""
    return [value for value in values if value is not None]


def _parts(trie: Trie, shortlist: ItemArray) -> tuple[PrefixTree, ...]:
    """The prefixes of a shortlist, in as many parts as keep each to `MOST_PREFIXES`."""
    # Beside the root, an item has a prefix of its own on each level but the last, at most.
    items = (MOST_PREFIXES - 1) // max(1, trie.levels - 1)
    parts = np.array_split(shortlist, max(1, -(-len(shortlist) // items)))
    return tuple(trie.prefixes(part) for part in parts)


def _by_score(items: ItemArray | None, scores: NDArray[np.float32]) -> Ranked | None:
    if items is None:
        return None
    order = np.argsort(-scores, kind="stable")
    return Ranked(items[order], scores[order])
