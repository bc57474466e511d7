"""The generator's tokenizer, examples and training."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer

from core.codes import code_tokens
from offline.generator.config import TokenTrainConfig
from offline.generator.tokenizer import UNK, extend, from_scratch
from offline.generator.tokens.examples import IGNORE, Batch, ExampleSource
from offline.generator.tokens.model import (
    MultiTargetLoss,
    fit_vocabulary,
    from_checkpoint,
    from_preset,
)
from offline.generator.tokens.train import train_tokens
from offline.training.checkpoint import CheckpointError
from offline.training.config import TrainingConfig
from services.generator.prompts import Template
from tests.generator.made_up import level_texts, random_levels
from tests.offline.tiny_models import save_t5

ITEMS = 30
TEMPLATES = (
    Template("sequential", "seen", "{history} , next", "{target}"),
    Template("sequential", "seen", "{user} of {dataset} chose {history}", "{target}"),
    Template("direct", "seen", "for {user}", "{target}"),
)
TEXTS = level_texts(random_levels(ITEMS, (6, 7)))


def sequences(users: int = 20) -> list[NDArray[np.int32]]:
    rng = np.random.default_rng(0)
    return [
        ((np.arange(rng.integers(3, 25)) + rng.integers(ITEMS)) % ITEMS).astype(np.int32)
        for _ in range(users)
    ]


def make_source(
    targets: int = 3, direct_share: float = 0.2, tokenizer: Tokenizer | None = None
) -> ExampleSource:
    tokenizer = tokenizer or from_scratch(TEMPLATES, "made-up", TEXTS)
    return ExampleSource(
        sequences=sequences(),
        codes=code_tokens(tokenizer, TEXTS, eos=1, pad=0, unknown=2),
        code_texts=TEXTS,
        templates=TEMPLATES,
        tokenizer=tokenizer,
        dataset="made-up",
        max_history=10,
        max_tokens=64,
        targets=targets,
        direct_share=direct_share,
        history_dropout=0.1,
        pad=0,
    )


def batches(source: ExampleSource, epoch: int, batch_size: int) -> list[Batch]:
    """Those of an epoch, written out."""
    windows = source.epoch(np.random.default_rng(epoch), batch_size)
    return [source.collate(own, np.random.default_rng((epoch, i))) for i, own in enumerate(windows)]


def test_a_vocabulary_from_scratch_knows_every_prompt_and_code() -> None:
    tokenizer: Tokenizer = make_source().tokenizer
    text = f"user_27 of made-up chose {TEXTS[0]} {TEXTS[1]} , next user_unknown"
    tokens = tokenizer.encode(text).tokens
    assert UNK not in tokens
    assert tokens[-1] == "</s>"
    assert (
        TEXTS[0]
        == "".join(t for t in tokens if t in TEXTS[0] and t.startswith("<"))[: len(TEXTS[0])]
    )
    assert tokenizer.encode("zebra").tokens == [UNK, "</s>"]
    assert [tokenizer.id_to_token(i) for i in range(3)] == ["<pad>", "</s>", "<unk>"]


def test_a_code_with_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="<z_9>"):
        code_tokens(make_source().tokenizer, ["<z_9>"], eos=1, pad=0, unknown=2)


@pytest.mark.parametrize("targets", [1, 3])
def test_an_epoch_learns_each_item_once(targets: int) -> None:
    source = make_source(targets=targets)
    for epoch in range(3):
        for user, sequence in enumerate(source.sequences):
            ends = [
                w.end
                for b in source.epoch(np.random.default_rng(epoch), 8)
                for w in b
                if w.user == user
            ]
            learned = sorted(
                i for end in ends for i in range(end, min(end + targets, len(sequence)))
            )
            skipped = learned[0] if learned else len(sequence)
            assert 1 <= skipped <= targets or len(sequence) <= targets
            assert learned == list(range(skipped, len(sequence)))


def test_labels_are_the_codes_of_what_comes_next() -> None:
    source = make_source(direct_share=0.0)
    windows = source.epoch(np.random.default_rng(1), 4)
    for batch, rows in zip(batches(source, 1, 4), windows, strict=True):
        for labels, window in zip(batch.labels, rows, strict=True):
            upcoming = source.sequences[window.user][window.end : window.end + source.targets]
            expected = np.full((source.targets, 2), IGNORE)
            expected[: len(upcoming)] = source.codes[upcoming]
            assert labels.tolist() == expected.tolist()


@torch.no_grad()
def test_several_targets_cost_what_transformers_says_they_cost() -> None:
    source = make_source()
    torch.manual_seed(0)
    model = from_preset("tiny", source.tokenizer, dropout=0.0)
    model.train(False)
    batch = batches(source, 0, 6)[0]
    ours = MultiTargetLoss(model)(batch.input_ids, batch.attention_mask, batch.labels)
    losses, counted = 0.0, 0
    for target in range(source.targets):
        labels = batch.labels[:, target]
        rows = labels[:, 0] != IGNORE
        if not rows.any():
            continue
        theirs = model(
            input_ids=batch.input_ids[rows],
            attention_mask=batch.attention_mask[rows],
            labels=labels[rows],
        ).loss
        count = int((labels[rows] != IGNORE).sum())
        losses, counted = losses + float(theirs) * count, counted + count
    assert float(ours) == pytest.approx(losses / counted, rel=1e-5)


CONFIG = TokenTrainConfig(
    batch_size=8, loop=TrainingConfig(epochs=3, learning_rate=2e-3, warmup_steps=2)
)
CHECKPOINT = "checkpoint.safetensors"


def with_epochs(epochs: int) -> TokenTrainConfig:
    return CONFIG.model_copy(update={"loop": CONFIG.loop.model_copy(update={"epochs": epochs})})


def train_here(
    directory: Path | None = None,
    *,
    config: TokenTrainConfig = CONFIG,
    source: ExampleSource | None = None,
    bar: Progress | None = None,
) -> tuple[dict[str, torch.Tensor], dict[int, float]]:
    """Trains a model; returns its parameters, and no curve."""
    source = source or make_source()
    torch.manual_seed(0)
    model = from_preset("tiny", source.tokenizer, dropout=0.1)
    train_tokens(model, source, config, path=directory / CHECKPOINT if directory else None, bar=bar)
    return {name: weights.detach() for name, weights in model.named_parameters()}, {}


@pytest.mark.slow
def test_training_learns_to_walk_round_the_catalog() -> None:
    source = make_source(targets=1, direct_share=0.0)
    torch.manual_seed(0)
    model = from_preset("tiny", source.tokenizer, dropout=0.0)
    loss = MultiTargetLoss(model)

    def current() -> float:
        losses = [float(loss(*batch.tensors)) for batch in batches(source, 99, 64)]
        return sum(losses) / len(losses)

    with torch.no_grad():
        before = current()
    train_tokens(model, source, with_epochs(15))
    with torch.no_grad():
        after = current()
    assert after < before / 4


KILLED = """
import os, signal, sys
from pathlib import Path
from rich.progress import Progress
from tests.offline.generator.test_generator_training import train_here

class Killer(Progress):
    advanced = 0.0
    def advance(self, task, share=1.0):
        self.advanced += share
        if self.advanced > 1.5:
            os.kill(os.getpid(), signal.SIGKILL)

train_here(Path(sys.argv[1]), bar=Killer(disable=True))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_resumes_to_the_same_result(tmp_path: Path) -> None:
    straight, _ = train_here()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / CHECKPOINT).exists()
    resumed, _ = train_here(tmp_path)
    assert straight.keys() == resumed.keys()
    for name, weights in straight.items():
        assert torch.equal(weights, resumed[name]), name


def test_the_checkpoint_of_another_run_is_not_continued(tmp_path: Path) -> None:
    train_here(tmp_path, config=with_epochs(1))
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_here(tmp_path, config=with_epochs(2))
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_here(tmp_path, config=with_epochs(1), source=make_source(direct_share=0.0))


@pytest.mark.parametrize("style", ["tokens", "text"])
def test_a_checkpoint_keeps_its_own_tokenizer(tmp_path: Path, style: str) -> None:
    model, tokenizer = from_checkpoint(save_t5(tmp_path), dropout=0.0)
    rows = model.config.vocab_size
    texts = TEXTS if style == "tokens" else [f"item_{n}" for n in (1, 10, 108, 1081)]
    extend(tokenizer, texts)
    fit_vocabulary(model, tokenizer)
    codes = code_tokens(tokenizer, texts, eos=1, pad=0, unknown=tokenizer.token_to_id(UNK))
    if style == "tokens":
        assert codes.shape == (ITEMS, 2)
        assert model.config.vocab_size == max(rows, tokenizer.get_vocab_size())
        assert codes.max() < model.config.vocab_size
    else:
        assert model.config.vocab_size == rows
        assert codes.shape[1] == len(tokenizer.encode("item_1081").ids)
        assert [row[row != 0][-1] for row in codes] == [1] * 4  # each says where it ends
        assert codes[0].tolist()[: (codes[0] != 0).sum() - 1] == tokenizer.encode("item_1").ids[:-1]
