"""Training a generator that reads whole items: it learns, repeats, resumes, and shares work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor

from core.codes import code_tokens
from offline.dataset.schema import Dataset
from offline.generator.config import FamilyShares, ItemTrainConfig
from offline.generator.items.expected import ExpectedItems
from offline.generator.items.model import ItemT5
from offline.generator.items.scores import exact_scores
from offline.generator.items.train import ItemPrompts, train_items
from offline.generator.tokenizer import from_scratch
from offline.training.checkpoint import CheckpointError
from offline.training.config import TrainingConfig
from services.generator.prompts import PromptError, Template
from tests.generator.made_up import EOS, PAD, UNKNOWN, level_texts, random_levels, random_t5
from tests.offline.query_encoder.test_query_encoder import ITEMS, cycles

ROOT = Path(__file__).parents[3]
TEMPLATES = (
    Template("sequential", "seen", "after {history}", "{target}"),
    Template("sequential", "seen", "what follows {history}", "{target}"),
    Template("direct", "seen", "for {user}", "{target}"),
)
TEXTS = level_texts(random_levels(ITEMS, (4, 5)))
CONFIG = ItemTrainConfig(
    batch_items=60,
    loop=TrainingConfig(
        epochs=4, learning_rate=1e-2, warmup_steps=2, evaluate_every=2, average=0.9
    ),
)
USERS = 4
CHECKPOINT = "checkpoint.safetensors"


def make_model(dropout: float = 0.1, users: int = USERS) -> tuple[ItemT5, ItemPrompts]:
    tokenizer = from_scratch(TEMPLATES, "made-up", TEXTS, user_tokens=users, ends=False)
    codes = code_tokens(tokenizer, TEXTS, eos=EOS, pad=PAD, unknown=UNKNOWN)
    t5 = random_t5(
        tokenizer.get_vocab_size(), {"num_decoder_layers": 1, "dropout_rate": dropout}
    ).train()
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 32)).astype(np.float32)
    torch.manual_seed(0)
    return ItemT5(t5, vectors, codes), ItemPrompts(TEMPLATES, tokenizer, "made-up", users)


def train_here(
    directory: Path | None = None,
    *,
    data: Dataset | None = None,
    bar: Progress | None = None,
    dropout: float = 0.1,
    direct_share: float = 0.3,
    **loop: object,
) -> tuple[dict[str, Tensor], dict[int, float]]:
    """Trains a model; returns its parameters and the curve."""
    model, prompts = make_model(dropout)
    config = CONFIG.model_copy(update={"loop": CONFIG.loop.model_copy(update=loop)})
    curve = train_items(
        model,
        data or cycles(),
        prompts,
        config,
        max_history=6,
        shares=FamilyShares(direct=direct_share),
        history_dropout=0.1,
        path=directory / CHECKPOINT if directory else None,
        bar=bar,
    )
    return {name: weights.detach() for name, weights in model.named_parameters()}, curve


Result = tuple[dict[str, Tensor], dict[int, float]]


def assert_same(ours: Result, theirs: Result) -> None:
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    for name, weights in ours[0].items():
        assert torch.equal(weights, theirs[0][name]), name


@pytest.fixture(scope="module")
def trained() -> Result:
    return train_here()


def test_learns_a_deterministic_walk() -> None:
    # Nothing else: a name, and the words alone, are answered by any item.
    _, curve = train_here(epochs=20, dropout=0.0, direct_share=0.0)
    assert max(curve.values()) > 0.9


def test_a_users_name_is_learned_from_what_is_expected() -> None:
    """One expected item a user, which is none of theirs: it is what their name asks for."""
    data = cycles()
    sequences = data.train()
    items = np.array([[ITEMS - 1 - int(sequence[0])] for sequence in sequences], np.int32)
    model, prompts = make_model(dropout=0.0, users=len(sequences))
    loop = CONFIG.loop.model_copy(update={"epochs": 10})
    train_items(
        model,
        data,
        prompts,
        CONFIG.model_copy(update={"loop": loop}),
        max_history=6,
        shares=FamilyShares(direct=1.0),
        history_dropout=0.0,
        expected=ExpectedItems(items, np.ones((len(sequences), 1))),
    )
    nothing = [np.empty(0, np.int32)]
    for user, item in enumerate(items[:, 0].tolist()):
        words = prompts.words(TEMPLATES[2], user)
        scores = exact_scores(model.eval(), words, nothing, 6)[0]
        assert item in np.argsort(-scores)[:3]


def test_the_seed_decides_everything(trained: Result) -> None:
    assert sorted(trained[1]) == [2, 4]
    assert_same(train_here(), trained)
    other, _ = train_here(seed=1)
    assert not torch.equal(other["item_vectors"], trained[0]["item_vectors"])


KILLED = """
import os, signal, sys
from pathlib import Path
from rich.progress import Progress
from tests.offline.generator.test_item_training import train_here

class Killer(Progress):
    advanced = 0.0
    def advance(self, task, share=1.0):
        self.advanced += share
        if self.advanced > 2.5:
            os.kill(os.getpid(), signal.SIGKILL)

train_here(Path(sys.argv[1]), bar=Killer(disable=True))
"""


@pytest.mark.slow
def test_killed_in_an_epoch_it_resumes_to_the_same_result(tmp_path: Path, trained: Result) -> None:
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        check=False,
        cwd=ROOT,
        env=os.environ | threads,
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / CHECKPOINT).exists()
    bar = Progress(disable=True)
    assert_same(train_here(tmp_path, bar=bar), trained)
    assert bar.tasks[0].completed == pytest.approx(4)
    assert_same(train_here(tmp_path), trained)


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    train_here(tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_here(tmp_path, epochs=2)
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_here(tmp_path, epochs=1, data=cycles(29))
    with pytest.raises(CheckpointError, match="other data or settings"):
        train_here(tmp_path, epochs=1, direct_share=0.0)


@pytest.mark.parametrize("asked", ["{history} after", "{history}", "{user} after {history}"])
def test_prompts_that_cannot_be_learned_are_refused(asked: str) -> None:
    model, prompts = make_model()
    wrong = ItemPrompts(
        (*TEMPLATES, Template("sequential", "seen", asked, "{target}")),
        prompts.tokenizer,
        "made-up",
        USERS,
    )
    with pytest.raises(PromptError, match="a model that reads whole items"):
        train_items(
            model,
            cycles(),
            wrong,
            CONFIG,
            max_history=6,
            shares=FamilyShares(direct=0.0),
            history_dropout=0.0,
        )
