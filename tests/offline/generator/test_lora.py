"""LoRA: what learns, what stays, and that a merged model is the model that was trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from core.codes import code_tokens
from offline.build.config import ConfigError, configure
from offline.generator.config import LoraSection, LoraTarget, TokenTrainConfig
from offline.generator.export.parity import compare
from offline.generator.tokenizer import extend, level_ids
from offline.generator.tokens.backbones import from_checkpoint, load
from offline.generator.tokens.examples import ExampleSource
from offline.generator.tokens.lora import adapted
from offline.generator.tokens.model import fit_vocabulary
from offline.generator.tokens.train import train_tokens
from offline.training import checkpoint
from offline.training.config import TrainingConfig
from services.generator.decoding.engine import Generation, RankingQuery, UserContext
from tests.generator.made_up import Backbone, write_made_up
from tests.offline.generator.test_generator_training import TEXTS, make_source
from tests.offline.tiny_models import save_llama, save_t5

KINDS: tuple[Backbone, ...] = ("t5", "llama", "qwen2", "qwen3")
CONFIG = TokenTrainConfig(
    batch_size=16, loop=TrainingConfig(epochs=2, learning_rate=1e-2, warmup_steps=1)
)


def pretrained(directory: Path, kind: Backbone) -> tuple[PreTrainedModel, Tokenizer]:
    """A checkpoint that knows the codes, as a build makes it."""
    saved = directory / kind
    if not saved.is_dir():
        _ = save_t5(saved) if kind == "t5" else save_llama(saved, kind=kind)
    torch.manual_seed(0)
    model, tokenizer = from_checkpoint(saved, dropout=0.0)
    extend(tokenizer, TEXTS)
    fit_vocabulary(model, tokenizer)
    return model, tokenizer


def source_of(model: PreTrainedModel, tokenizer: Tokenizer) -> ExampleSource:
    pad, eos = model.config.pad_token_id, model.config.eos_token_id
    source = make_source(tokenizer=tokenizer)
    codes = code_tokens(tokenizer, TEXTS, eos=eos, pad=pad, unknown=None)
    return ExampleSource(**{**vars(source), "codes": codes, "pad": pad, "max_tokens": 128})


def code_rows(tokenizer: Tokenizer) -> list[int]:
    return level_ids(tokenizer, TEXTS)


def weights_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weights.detach().clone() for name, weights in model.state_dict().items()}


@torch.no_grad()
def said(model: Any) -> torch.Tensor:
    model.eval()
    ids = torch.arange(12)[None] + 2
    more = {"labels": ids[:, :3]} if model.config.is_encoder_decoder else {}
    logits: torch.Tensor = model(ids, **more).logits
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_only_targets_and_the_codes_rows_change(tmp_path: Path, kind: Backbone) -> None:
    model, tokenizer = pretrained(tmp_path, kind)
    before, form, rows = weights_of(model), str(model), code_rows(tokenizer)
    with adapted(model, LoraSection(), rows):
        train_tokens(model, source_of(model, tokenizer), CONFIG)
        learned = said(model)
        sizes = [weights.numel() for weights in checkpoint.state_of(model).values()]
    assert torch.allclose(said(model), learned, atol=1e-4)
    assert str(model) == form
    after = weights_of(model)
    assert after.keys() == before.keys()
    changed = {name for name, weights in before.items() if not torch.equal(weights, after[name])}
    tables = {name for name in changed if "embed" in name or "head" in name or "shared" in name}
    assert {name.split(".")[-2].removesuffix("_proj") for name in changed - tables} == {"q", "v"}
    for name in tables:
        different = (before[name] != after[name]).any(1).nonzero().flatten().tolist()
        assert different == sorted(rows), name
    tied = 1 if model.config.tie_word_embeddings else 2
    assert len(tables) >= tied
    assert sum(sizes) < sum(weights.numel() for weights in model.parameters()) / 2


@pytest.mark.parametrize(
    ("kind", "targets", "names"),
    [
        ("t5", ("o", "ff"), {"o", "wi", "wo"}),
        ("llama", ("k", "o"), {"k_proj", "o_proj"}),
        ("qwen3", ("ff",), {"gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_targets_have_the_same_names_everywhere(
    tmp_path: Path, kind: Backbone, targets: tuple[LoraTarget, ...], names: set[str]
) -> None:
    model, _ = pretrained(tmp_path, kind)
    with adapted(model, LoraSection(targets=targets), []):
        learning = checkpoint.state_of(model)
        assert {name.split(".lora_")[0].rpartition(".")[2] for name in learning} == names


class Stopped(Exception):
    """As if the process had been killed."""


def stop_after(epochs: int) -> Callable[..., None]:
    save = checkpoint.save

    def saved(path: Path, progress: checkpoint.Progress, *rest: Any) -> None:
        save(path, progress, *rest)
        if progress.epoch == epochs:
            raise Stopped

    return saved


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_resumed_it_ends_where_unbroken_training_ends(
    tmp_path: Path, kind: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(path: Path | None) -> dict[str, torch.Tensor]:
        model, tokenizer = pretrained(tmp_path, kind)
        with adapted(model, LoraSection(dropout=0.1), code_rows(tokenizer)):
            train_tokens(model, source_of(model, tokenizer), CONFIG, path=path)
        return weights_of(model)

    unbroken = trained(None)
    path = tmp_path / "checkpoint.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", stop_after(1))
        with pytest.raises(Stopped):
            trained(path)
    whole = sum(weights.numel() * 4 for weights in unbroken.values())
    assert path.stat().st_size < whole, "frozen weights are not written"
    resumed = trained(path)
    for name, weights in unbroken.items():
        assert torch.equal(weights, resumed[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_export_agrees_with_transformers(tmp_path: Path, kind: Backbone) -> None:
    def adapt(model: Any) -> None:
        rows = list(range(model.config.vocab_size - 10, model.config.vocab_size))
        section = LoraSection(targets=("q", "k", "v", "o", "ff"))
        with adapted(model, section, rows), torch.no_grad():
            for weights in checkpoint.state_of(model).values():
                weights += torch.randn_like(weights) * 0.2
        model.save_pretrained(tmp_path / "model")

    made = write_made_up(tmp_path, TEXTS, backbone=kind, change=adapt)
    wish = Generation(10, None, np.empty(0, np.int32))
    histories = np.arange(16, dtype=np.int32).reshape(8, 2)
    queries = [RankingQuery(UserContext(None, history), wish) for history in histories]
    compare(made.engine, load(tmp_path / "model"), queries).require()


def test_lora_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(ConfigError, match="name a model with --checkpoint"):
        configure("demo", {"generator": {"lora": {}}})
    with pytest.raises(ConfigError, match="targets"):
        configure("demo", {"generator": {"checkpoint": "any", "lora": {"targets": ["x"]}}})
    config = configure("demo", {"generator": {"checkpoint": "any", "lora": {"rank": 4}}})
    assert config.generator.lora == LoraSection(rank=4, targets=("q", "v"))
