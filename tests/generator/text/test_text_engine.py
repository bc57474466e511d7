"""The text graph and its engine against `transformers`, against torch, and against itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.generator.text.engine import TextEngine, TextJob
from services.generator.text.sampling import Sampling
from tests.generator.made_up import EOS, Backbone, MadeUp
from tests.generator.made_up_items import MadeUpItems
from tests.generator.text.made_up_text import (
    MAX_TOKENS,
    by_transformers,
    until_end,
    write_all,
    write_text_bundle,
)

PROMPTS = 200
BATCH = 25


def random_prompts(vocabulary: int, count: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[*rng.integers(3, vocabulary, rng.integers(1, 40)).tolist(), EOS] for _ in range(count)]


@pytest.mark.parametrize("backbone", ["t5", "llama", "qwen2"])
def test_writes_what_transformers_writes(
    writer: MadeUp, backbone: Backbone, tmp_path: Path
) -> None:
    if backbone != "t5":
        writer = write_text_bundle(tmp_path, backbone=backbone)
    engine = TextEngine(writer.engine.parts)
    prompts = random_prompts(writer.engine.parts.section.vocabulary, PROMPTS)
    written, expected = [], []
    for start in range(0, PROMPTS, BATCH):
        some = prompts[start : start + BATCH]
        jobs = [TextJob(writer.engine.snapshot, prompt, MAX_TOKENS) for prompt in some]
        written += write_all(engine, jobs)
        expected += by_transformers(writer.model, some, MAX_TOKENS)
    assert written == expected
    assert len(set(map(tuple, written))) > PROMPTS / 3  # they have something to say
    assert any(EOS in text for text in written)


def test_item_model_writes_what_torch_does(item_writer: MadeUpItems) -> None:
    engine, vocabulary = item_writer.engine, item_writer.engine.parts.section.vocabulary
    rng, words, text = np.random.default_rng(0), engine.words(), TextEngine(engine.parts)
    histories = [rng.integers(0, item_writer.items, (BATCH, n)) for n in range(1, 9)]
    prompts = [[*words, *row] for each in histories for row in (vocabulary + each).tolist()]
    order = rng.permutation(PROMPTS)  # so that batches are padded
    written: dict[int, list[int]] = {}
    for some in np.split(order, PROMPTS // BATCH):
        jobs = [TextJob(engine.snapshot, prompts[i], MAX_TOKENS) for i in some]
        written |= dict(zip(some.tolist(), write_all(text, jobs), strict=True))
    expected = [row for each in histories for row in by_torch(item_writer, words, each)]
    assert [written[i] for i in range(PROMPTS)] == expected
    assert len(set(map(tuple, expected))) > PROMPTS / 8


def by_torch(
    made_up: MadeUpItems, words: list[int], histories: NDArray[np.int64]
) -> list[list[int]]:
    """Greedily, by the model's own modules: everything is read anew for each token."""
    model = made_up.model
    head = model.t5.shared.weight[: min(int(tokens.min()) for tokens in model.tree.vocabulary)]
    said = torch.empty(len(histories), 0, dtype=torch.int64)
    with torch.inference_mode():
        read = torch.tensor([words]).expand(len(histories), -1)
        memory = model.encode(read, torch.from_numpy(histories), model.table())
        for _ in range(MAX_TOKENS):
            states = model.decode(said[:, None], memory[:, -1:], memory)[:, 0, -1]
            said = torch.cat([said, (states @ head.T).argmax(1, keepdim=True)], dim=1)
    return [until_end(row) for row in said.tolist()]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_rows_that_come_and_go_change_nothing(writer: MadeUp, data: st.DataObject) -> None:
    """Random arrivals, lengths and departures, and ways of drawing."""
    snapshot = writer.engine.snapshot
    prompts = random_prompts(
        writer.engine.parts.section.vocabulary, 6, data.draw(st.integers(0, 9))
    )
    drawn = st.none() | st.builds(Sampling, st.floats(0.1, 1.0), st.integers(0, 99))
    jobs = [
        TextJob(snapshot, prompt, data.draw(st.integers(1, MAX_TOKENS)), data.draw(drawn))
        for prompt in prompts
    ]
    engine = TextEngine(writer.engine.parts)
    alone = [write_all(engine, [job])[0] for job in jobs]
    together = arriving(engine, jobs, data)
    assert together == alone


def arriving(engine: TextEngine, jobs: list[TextJob], data: st.DataObject) -> list[list[int]]:
    """The texts of jobs that begin at random steps, at most three at a time."""
    said: list[list[int]] = [[] for _ in jobs]
    coming, here = list(range(len(jobs))), list[int]()
    while coming or here:
        count = data.draw(st.integers(0 if here else 1, 3 - min(len(here), 2)))
        joining = [coming.pop(0) for _ in range(min(count, len(coming), 3 - len(here)))]
        keep = list(range(len(here)))
        if joining:
            begun = [jobs[i] for i in joining]
            engine.change(keep, begun, engine.encode(begun))
            here += joining
        for i, token in zip(here, engine.step(), strict=True):
            said[i].append(token)
        stays = [
            place
            for place, i in enumerate(here)
            if said[i][-1] != engine.section.end_token and len(said[i]) < jobs[i].max_tokens
        ]
        engine.change(stays, [], [])
        here = [here[place] for place in stays]
    return said
