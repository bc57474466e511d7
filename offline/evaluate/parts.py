"""The rows of an evaluation that need no server: baselines, the retrieval, the generator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.catalog import ItemArray
from offline.baselines import RECENT, RECENT_DECAY, transition_scores
from offline.evaluate.protocol import DEPTH, METRICS, RANKINGS, RECALLS, WHOLE, Question, row
from offline.metrics import Ranking, Row, measure, ranks_from_scores
from services.candidate.index.flat import Vector
from services.candidate.retrieval.encoders import OnnxQueryEncoder
from services.candidate.retrieval.similarity import unit
from services.candidate.retrieval.transitions import Transitions
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.prompts import SEQUENTIAL, Kind, read_templates, select

Advance = Callable[[int], None]

_RECENT: Final = 10
"""Newest items whose mean content vector the row `embedding` compares with."""
_SCORED_AT_ONCE: Final = 256
"""Users whose scores of the whole catalog are held in memory."""
_BATCH: Final = 8
"""Prompts that the generator decodes at once."""
_NOTHING: Final[ItemArray] = np.empty(0, np.int32)


def baseline_rows(bundle: Bundle, asked: Sequence[Question], advance: Advance) -> Iterator[Row]:
    """`popularity` and `transitions`; ties count for the target, as in `offline.baselines`."""
    popularity = bundle.catalog.popularity.astype(np.float64)
    # As published, whatever the bundle found best for its blend.
    table = replace(Transitions.read(bundle), window=RECENT, decay=RECENT_DECAY)
    scorers: dict[str, Callable[[list[ItemArray]], NDArray[np.float64]]] = {
        "popularity": lambda histories: np.tile(popularity, (len(histories), 1)),
        "transitions": lambda histories: transition_scores(table, histories),
    }
    for name, score in scorers.items():
        for ranking in RANKINGS:
            ranks = []
            for start in range(0, len(asked), _SCORED_AT_ONCE):
                chunk = asked[start : start + _SCORED_AT_ONCE]
                histories = [question.history for question in chunk]
                targets = np.array([question.target for question in chunk])
                seen = histories if ranking == "filtered" else None
                ranks.append(ranks_from_scores(score(histories), targets, seen, ties="best"))
                advance(len(chunk))
            yield measure(name, ranking, np.concatenate(ranks), WHOLE)


def retrieval_rows(bundle: Bundle, asked: Sequence[Question], advance: Advance) -> Iterator[Row]:
    """`embedding`, content alone, and `retrieval`, the query encoder alone, by exact search."""
    content = np.asarray(bundle.array("content_vectors", np.float32))
    behavior = np.asarray(bundle.array("behavior_vectors", np.float32))
    encoder = OnnxQueryEncoder(bundle.file("query_encoder.onnx"), threads=0)
    newest = bundle.manifest.candidate.max_history

    def similar(chunk: Sequence[Question]) -> Vector:
        return np.stack([unit(content[q.history[-_RECENT:]].mean(axis=0)) for q in chunk])

    def retrieved(chunk: Sequence[Question]) -> Vector:
        return encoder.encode_batch([behavior[q.history[-newest:]] for q in chunk])

    yield from _nearest_rows("embedding", asked, content, similar, METRICS, advance)
    yield from _nearest_rows("retrieval", asked, behavior, retrieved, (*METRICS, *RECALLS), advance)


def generator_rows(
    bundle: Bundle, engine: GeneratorEngine, asked: Sequence[Question], advance: Advance
) -> Iterator[Row]:
    """The rows of the generator by itself.

    `generator/seen` and `generator/unseen`: with the prompt that serves, and with a new one;
    `generator/untold`: not told what is seen; `direct`: with the user's name and no history, where
    training knew users.
    """
    templates = read_templates(bundle.file("prompts.txt"))
    kinds: tuple[Kind, ...] = ("seen", "unseen")
    for kind in kinds:
        variant = engine.with_template(select(templates, SEQUENTIAL, kind)[0])
        yield from _generated_rows(f"generator/{kind}", variant, asked, _of_history, advance)
    section = engine.parts.section
    if section.inputs == "items":
        untold = engine.untold()
        yield _generated_row("generator/untold", "unfiltered", untold, asked, _of_history, advance)
    if section.inputs == "tokens" or section.user_tokens:
        yield from _generated_rows("direct", engine, asked, _of_user, advance)


def _of_history(question: Question) -> UserContext:
    return UserContext(question.user, question.history)


def _of_user(question: Question) -> UserContext:
    return UserContext(question.user, _NOTHING)


def _generated_rows(
    name: str,
    engine: GeneratorEngine,
    asked: Sequence[Question],
    context: Callable[[Question], UserContext],
    advance: Advance,
) -> Iterator[Row]:
    """The rows of what the generator generates for contexts."""
    for ranking in RANKINGS:
        yield _generated_row(name, ranking, engine, asked, context, advance)


def _generated_row(
    name: str,
    ranking: Ranking,
    engine: GeneratorEngine,
    asked: Sequence[Question],
    context: Callable[[Question], UserContext],
    advance: Advance,
) -> Row:
    beams = engine.parts.section.beams
    lists = [_NOTHING] * len(asked)
    # Histories of similar length together: padding costs time.
    order = np.argsort([len(question.history) for question in asked], kind="stable").tolist()
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        queries = [
            RankingQuery(context(q), Generation(beams, None, _denied(q, ranking)))
            for q in (asked[place] for place in places)
        ]
        for place, ranked in zip(places, engine.generate(queries), strict=True):
            lists[place] = ranked.items
        advance(len(places))
    return row(name, ranking, asked, lists)


def _denied(question: Question, ranking: Ranking) -> ItemArray:
    return question.history if ranking == "filtered" else _NOTHING


def _nearest_rows(
    name: str,
    asked: Sequence[Question],
    vectors: Vector,
    queries: Callable[[Sequence[Question]], Vector],
    metrics: Sequence[str],
    advance: Advance,
) -> Iterator[Row]:
    """The rows of the items whose vectors have the largest inner products with queries."""
    lists: dict[Ranking, list[ItemArray]] = {ranking: [] for ranking in RANKINGS}
    for start in range(0, len(asked), _SCORED_AT_ONCE):
        chunk = asked[start : start + _SCORED_AT_ONCE]
        scores = queries(chunk) @ vectors.T
        lists["unfiltered"] += [_best(own) for own in scores]
        for own, question in zip(scores, chunk, strict=True):
            own[question.history] = -np.inf
        lists["filtered"] += [_best(own) for own in scores]
        advance(len(RANKINGS) * len(chunk))
    for ranking in RANKINGS:
        yield row(name, ranking, asked, lists[ranking], metrics)


def _best(scores: NDArray[np.float32]) -> ItemArray:
    """The `DEPTH` items with the highest scores, best first; equal ones by position."""
    items = np.flatnonzero(scores > -np.inf)
    if len(items) > DEPTH:
        least = np.partition(scores[items], -DEPTH)[-DEPTH]
        items = items[scores[items] >= least]
    order = np.argsort(-scores[items], kind="stable")[:DEPTH]
    return items[order].astype(np.int32)
