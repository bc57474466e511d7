"""The rows of an evaluation that need no server: baselines, the retrieval, the generator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.baselines import RECENT, RECENT_DECAY, transition_scores
from offline.evaluate.protocol import DEPTH, METRICS, RANKINGS, RECALLS, Lister, Question, row
from offline.metrics import Row, measure, ranks_from_scores
from runtime.bundle import Bundle
from runtime.catalog import ItemArray
from services.candidate.engine import CandidateEngine
from services.candidate.shortlist import Weights
from services.candidate.space import SpaceName
from services.candidate.transitions import Transitions
from services.generator.engine import Context, Generation, GeneratorEngine, Query
from services.generator.prompts import SEQUENTIAL, Kind, read_templates, select

Advance = Callable[[int], None]

_RECENT: Final = 10
"""Newest items whose mean content vector the row `embedding` compares with."""
_SCORED_AT_ONCE: Final = 256
"""Users whose scores of the whole catalog are held in memory."""
_BATCH: Final = 8
"""Prompts that the generator decodes at once."""


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
            yield measure(name, ranking, np.concatenate(ranks), METRICS)


def retrieval_rows(bundle: Bundle, asked: Sequence[Question], advance: Advance) -> Iterator[Row]:
    """`embedding`, content alone, and `retrieval`, the query encoder alone."""
    engine = CandidateEngine.load(bundle, weights=Weights(behavior=1.0, transitions=0.0))

    def similar(question: Question, include_seen: bool) -> ItemArray:
        recent = question.history[-_RECENT:]
        mean = engine.vectors(SpaceName.CONTENT)[recent].mean(axis=0)
        seen = np.empty(0, np.int32) if include_seen else question.history
        return engine.similar_to_vector(mean, DEPTH, SpaceName.CONTENT, excluded=seen).items

    def retrieved(question: Question, include_seen: bool) -> ItemArray:
        return engine.search(question.history, DEPTH, include_seen=include_seen).items

    yield from _rows("embedding", asked, similar, METRICS, advance)
    yield from _rows("retrieval", asked, retrieved, (*METRICS, *RECALLS), advance)


def generator_rows(
    bundle: Bundle, engine: GeneratorEngine, asked: Sequence[Question], advance: Advance
) -> Iterator[Row]:
    """`generator/seen` and `generator/unseen`: with the prompt that serves, and with a new one."""
    templates = read_templates(bundle.file("prompts.txt"))
    kinds: tuple[Kind, ...] = ("seen", "unseen")
    for kind in kinds:
        variant = engine.with_template(select(templates, SEQUENTIAL, kind)[0])
        for ranking in RANKINGS:
            lists = []
            for start in range(0, len(asked), _BATCH):
                chunk = asked[start : start + _BATCH]
                queries = [
                    _generate(q, engine, include_seen=ranking == "unfiltered") for q in chunk
                ]
                lists += [ranked.items for ranked in variant.generate(queries)]
                advance(len(chunk))
            yield row(f"generator/{kind}", ranking, asked, lists)


def _generate(question: Question, engine: GeneratorEngine, *, include_seen: bool) -> Query:
    denied = np.empty(0, np.int32) if include_seen else question.history
    wish = Generation(engine.parts.section.beams, None, denied)
    return Query(Context(question.user, question.history), wish)


def _rows(
    name: str,
    asked: Sequence[Question],
    lister: Lister,
    metrics: Sequence[str],
    advance: Advance,
) -> Iterator[Row]:
    for ranking in RANKINGS:
        lists = []
        for question in asked:
            lists.append(lister(question, ranking == "unfiltered"))
            advance(1)
        yield row(name, ranking, asked, lists, metrics)
