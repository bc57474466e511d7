"""The rows of an evaluation on a bundle that was built from files."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from core.bundle import Bundle
from core.catalog import ItemArray
from gateway.domain import Strategy
from offline.evaluate import in_process
from offline.evaluate.agreement import are_equal
from offline.evaluate.in_process import pipeline_lists
from offline.evaluate.parts import generator_rows, retrieval_rows
from offline.evaluate.protocol import DEPTH, LISTED, RANKINGS, Question, RankedList, questions, row
from offline.evaluate.served import serving
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import SourceWeights
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from tandem import Client
from tests.pipeline.conftest import Shop

NOTHING: ItemArray = np.empty(0, np.int32)


def ignore(_count: int) -> None:
    pass


def test_batches_find_what_the_engine_finds_user_by_user(shop: Shop) -> None:
    engine = CandidateEngine.load(shop.bundle, weights=SourceWeights(behavior=1.0, transitions=0.0))
    content = engine.vectors(SpaceName.CONTENT)

    def similar(question: Question, seen: ItemArray) -> ItemArray:
        mean = content[question.history[-10:]].mean(axis=0)
        return engine.similar_to_vector(mean, DEPTH, SpaceName.CONTENT, excluded=seen).items

    def retrieved(question: Question, seen: ItemArray) -> ItemArray:
        return engine.search(question.history, DEPTH, excluded=seen, include_seen=True).items

    asked = questions(shop.bundle, "test")
    listers: dict[str, Callable[[Question, ItemArray], ItemArray]] = {
        "embedding": similar,
        "retrieval": retrieved,
    }
    rows = {(r.name, r.ranking): r for r in retrieval_rows(shop.bundle, asked, ignore)}
    for (name, ranking), found in rows.items():
        lists = [listers[name](q, q.history if ranking == "filtered" else NOTHING) for q in asked]
        assert found == row(name, ranking, asked, lists, tuple(found.metrics))
    assert len(rows) == 4


def test_direct_rows_name_the_user_alone(shop: Shop) -> None:
    bundle, engine = shop.bundle, GeneratorEngine.load(shop.bundle)
    asked = questions(bundle, "test")[:9]
    rows = {(r.name, r.ranking): r for r in generator_rows(bundle, engine, asked, ignore)}
    beams = bundle.manifest.generator.beams
    for ranking in RANKINGS:
        lists = []
        for question in asked:
            denied = question.history if ranking == "filtered" else NOTHING
            query = RankingQuery(
                UserContext(question.user, NOTHING), Generation(beams, None, denied)
            )
            lists.append(engine.generate([query])[0].items)
        assert rows["direct", ranking].metrics == row("direct", ranking, asked, lists).metrics
    section = engine.parts.section.model_copy(update={"user_tokens": 0})
    nameless = GeneratorEngine(replace(engine.parts, section=section), engine.snapshot)
    without = {r.name for r in generator_rows(bundle, nameless, asked, ignore)}
    assert without == {"generator/seen", "generator/unseen", "generator/untold"}


def served(client: Client, bundle: Bundle, question: Question, strategy: Strategy) -> RankedList:
    answer = client.recommend(
        question.user_id,
        history=bundle.catalog.ids(question.history),
        strategy=strategy.value,
        max_results=LISTED,
        timeout=20,
    )
    return RankedList.of(bundle.catalog, [(r.item_id, r.score) for r in answer.recommendations])


def test_lists_are_those_of_the_processes_under_every_strategy(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, engine = shop.bundle, GeneratorEngine.load(shop.bundle)
    asked = questions(bundle, "test")[:5]
    with serving(bundle.path) as addresses, Client(addresses["gateway"]) as client:
        for strategy in Strategy:
            monkeypatch.setattr(in_process, "default_strategy", lambda _, chosen=strategy: chosen)
            lists = pipeline_lists(bundle, engine, asked, ignore)["filtered"]
            for question, ours in zip(asked, lists, strict=True):
                assert len(ours.items)
                assert are_equal(ours, served(client, bundle, question, strategy)), strategy
