"""The rows of each indexing: tasks, prompts, what the number for seen items does, and beams."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bench.prove.scorers import GeneratorScorer
from core.bundle import Bundle
from core.catalog import ItemArray
from offline.dataset import Dataset
from offline.evaluate.protocol import METRICS, RANKINGS, Question, row
from offline.metrics import Ranking, Row, measure, ranks_from_scores
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.prompts import DIRECT, SEQUENTIAL, Kind, read_templates, select

BEAMS: Final = (10, 20, 40, 80)
_AT_ONCE: Final = 8
"""Prompts that share a run of the model."""
_TIMED: Final = 100
"""Prompts, each by itself, whose time is taken."""
_SCORED_AT_ONCE: Final = 256
_NOTHING: Final[ItemArray] = np.empty(0, np.int32)

TASKS: Final[tuple[tuple[str, Kind], ...]] = (
    (SEQUENTIAL, "seen"),
    (SEQUENTIAL, "unseen"),
    (DIRECT, "seen"),
    (DIRECT, "unseen"),
)


def task_rows(bundle: Bundle, task: str, kind: Kind, asked: Sequence[Question]) -> list[Row]:
    """What beam search finds for a task, with a prompt of training or with another."""
    engine = GeneratorEngine.load(bundle, precision="fp32")
    template = select(read_templates(bundle.file("prompts.txt")), task, kind)[0]
    if task == DIRECT:
        engine = GeneratorEngine(replace(engine.parts, direct=template), engine.snapshot)
        contexts = [UserContext(question.user, _NOTHING) for question in asked]
    else:
        engine = engine.with_template(template)
        contexts = [UserContext(question.user, question.history) for question in asked]
    beams = engine.parts.section.beams
    return [
        row(f"{task}/{kind}", ranking, asked, _lists(engine, contexts, asked, ranking, beams))
        for ranking in RANKINGS
    ]


def _lists(
    engine: GeneratorEngine,
    contexts: Sequence[UserContext],
    asked: Sequence[Question],
    ranking: Ranking,
    count: int,
) -> list[ItemArray]:
    denied = [q.history if ranking == "filtered" else _NOTHING for q in asked]
    queries = [
        RankingQuery(context, Generation(count, None, items))
        for context, items in zip(contexts, denied, strict=True)
    ]
    return [
        ranked.items
        for start in range(0, len(queries), _AT_ONCE)
        for ranked in engine.generate(queries[start : start + _AT_ONCE])
    ]


def seen_rows(generator: Path, data: Dataset, max_history: int) -> Iterator[Row]:
    """Exact rankings with the learned number for seen items, and without it."""
    scorer = GeneratorScorer.read(generator, data, max_history)
    yield from _exact_rows("exact", scorer, data)
    with torch.no_grad():
        scorer.model.seen.zero_()
    yield from _exact_rows("exact/seen items as others", scorer, data)


def _exact_rows(name: str, scorer: GeneratorScorer, data: Dataset) -> Iterator[Row]:
    asked = data.holdout("test")
    ranks: dict[Ranking, list[Any]] = {ranking: [] for ranking in RANKINGS}
    for start in range(0, len(asked.targets), _SCORED_AT_ONCE):
        part = slice(start, start + _SCORED_AT_ONCE)
        histories, targets = asked.histories[part], asked.targets[part]
        scores = scorer.scores(histories)
        for ranking, found in ranks.items():
            seen = histories if ranking == "filtered" else None
            found.append(ranks_from_scores(scores, targets, seen))
    for ranking, found in ranks.items():
        yield measure(name, ranking, np.concatenate(found), METRICS)


def beam_figures(bundle: Bundle, asked: Sequence[Question]) -> list[dict[str, float]]:
    """For several numbers of beams: quality, and the engine's time for one prompt."""
    engine = GeneratorEngine.load(bundle)
    contexts = [UserContext(question.user, question.history) for question in asked]
    figures = []
    for beams in BEAMS:
        section = engine.parts.section.model_copy(update={"beams": beams})
        other = GeneratorEngine(replace(engine.parts, section=section), engine.snapshot)
        found = row("beams", "filtered", asked, _lists(other, contexts, asked, "filtered", 10))
        figures.append(
            {
                "beams": beams,
                "ndcg@10": found.metrics["ndcg@10"],
                "hr@10": found.metrics["hr@10"],
                "milliseconds": _milliseconds(other, asked),
            }
        )
    return figures


def _milliseconds(engine: GeneratorEngine, asked: Sequence[Question]) -> float:
    """The median time of one prompt by itself, after some that warm up."""
    times = []
    for number in range(_TIMED + 5):
        question = asked[number % len(asked)]
        wish = Generation(10, None, question.history)
        started = time.perf_counter()
        engine.generate([RankingQuery(UserContext(question.user, question.history), wish)])
        times.append(time.perf_counter() - started)
    return statistics.median(times[5:]) * 1e3
