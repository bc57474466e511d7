"""Decoder-only models: what they learn costs what it should, and checkpoints keep their own."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.codes import code_tokens
from offline.build.config import ConfigError, configure
from offline.generator.config import TokenTrainConfig
from offline.generator.tokenizer import RESPONSE, end_with_response, extend, from_scratch
from offline.generator.tokens.backbones import from_checkpoint, from_preset, load, loss_of
from offline.generator.tokens.examples import IGNORE, ExampleSource
from offline.generator.tokens.llama import ASKED, PRESETS
from offline.generator.tokens.model import PRESETS as T5_PRESETS
from offline.generator.tokens.model import MultiTargetLoss, fit_vocabulary
from offline.generator.tokens.train import train_tokens
from offline.training.config import TrainingConfig
from tests.generator.made_up import Backbone, random_llama
from tests.offline.generator.test_generator_training import TEMPLATES, TEXTS, batches, make_source
from tests.offline.tiny_models import save_llama, save_t5


def source_of(targets: int = 3, direct_share: float = 0.2) -> ExampleSource:
    """Examples for a decoder alone."""
    tokenizer = from_scratch(TEMPLATES, "made-up", TEXTS, ends=False)
    return make_source(targets, direct_share, end_with_response(tokenizer, RESPONSE))


def test_prompts_end_with_the_response_part() -> None:
    source = source_of()
    response = source.tokenizer.token_to_id(RESPONSE)
    assert response is not None
    for batch in batches(source, 0, 6):
        lengths = batch.attention_mask.sum(1)
        last = batch.input_ids[torch.arange(len(lengths)), lengths - 1]
        assert set(last.tolist()) == {response}
        assert int(torch.eq(batch.input_ids, response).sum()) == len(lengths)
    assert response not in source.codes


def alone(model: Any, prompt: torch.Tensor, code: torch.Tensor) -> tuple[float, int]:
    """What a code costs after its prompt, and how many tokens it has."""
    code = code[code != IGNORE]
    whole = torch.cat([prompt, code])[None]
    labels = whole.clone()
    labels[0, : len(prompt)] = IGNORE
    return float(model(whole, labels=labels).loss) * len(code), len(code)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("shorter", [False, True])
def test_several_targets_cost_what_each_costs_alone(kind: Backbone, shorter: bool) -> None:
    source = source_of()
    model = random_llama(source.tokenizer.get_vocab_size(), {}, kind)
    batch = batches(source, 0, 6)[0]
    if shorter:  # as if some codes had ended earlier
        batch.labels[:, 1, -1] = IGNORE
    ours = loss_of(model)(*batch.tensors)
    losses, counted = 0.0, 0
    for ids, mask, targets in zip(*batch.tensors, strict=True):
        for target in targets:
            if target[0] != IGNORE:
                loss, count = alone(model, ids[mask.bool()], target)
                losses, counted = losses + loss, counted + count
    assert float(ours) == pytest.approx(losses / counted, rel=1e-5)


@torch.no_grad()
def test_codes_of_one_token_are_learned_from_the_prompt_alone() -> None:
    source = source_of()
    model = random_llama(source.tokenizer.get_vocab_size(), {})
    batch = batches(source, 0, 6)[0]
    first = batch.labels[:, :, :1]
    ours = loss_of(model)(batch.input_ids, batch.attention_mask, first)
    costs = [
        alone(model, ids[mask.bool()], target)
        for ids, mask, targets in zip(batch.input_ids, batch.attention_mask, first, strict=True)
        for target in targets
        if target[0] != IGNORE
    ]
    assert float(ours) == pytest.approx(sum(cost for cost, _ in costs) / len(costs), rel=1e-5)


@torch.no_grad()
def test_what_targets_begin_with_alike_is_read_once() -> None:
    source = source_of()
    model = random_llama(source.tokenizer.get_vocab_size(), {})
    batch = batches(source, 0, 1)[0]
    code = torch.tensor([3, 4, 5])
    labels = torch.stack([code, code, code + torch.tensor([0, 0, 1]), code + 1])[None]
    read: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    ours = loss_of(model)(batch.input_ids, batch.attention_mask, labels)
    assert read == [batch.input_ids.shape[1] + 4], "two beginnings of two tokens"
    costs = [alone(model, batch.input_ids[0], target)[0] for target in labels[0]]
    assert float(ours) == pytest.approx(sum(costs) / 12, rel=1e-5)


@pytest.mark.slow
def test_training_learns_to_walk_round_the_catalog() -> None:
    source = source_of(targets=1, direct_share=0.0)
    torch.manual_seed(0)
    model = from_preset("llama", "tiny", source.tokenizer, dropout=0.0)
    loss = loss_of(model)

    def current() -> float:
        with torch.no_grad():
            losses = [float(loss(*batch.tensors)) for batch in batches(source, 99, 64)]
        return sum(losses) / len(losses)

    before = current()
    config = TokenTrainConfig(
        batch_size=8, loop=TrainingConfig(epochs=12, learning_rate=2e-3, warmup_steps=2)
    )
    train_tokens(model, source, config)
    assert current() < before / 4


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_about_the_weights_of_t5s(name: str) -> None:
    tokenizer = source_of().tokenizer
    sizes = [
        sum(p.numel() for p in from_preset(backbone, name, tokenizer, dropout=0.0).parameters())
        for backbone in ("llama", "t5")
    ]
    assert PRESETS.keys() == T5_PRESETS.keys()
    assert 0.8 < sizes[0] / sizes[1] < 1.25


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_checkpoint_keeps_its_own_beginning_and_gets_a_padding(
    tmp_path: Path, kind: Backbone
) -> None:
    model, tokenizer = from_checkpoint(save_llama(tmp_path, kind=kind), dropout=0.0)
    extend(tokenizer, TEXTS)
    fit_vocabulary(model, tokenizer)
    prompt = tokenizer.encode("a1").tokens
    assert prompt == ["<s>", "a", "1", *tokenizer.encode(ASKED, add_special_tokens=False).tokens]
    codes = code_tokens(tokenizer, TEXTS, eos=1, pad=model.config.pad_token_id, unknown=None)
    assert codes.shape == (len(TEXTS), 2)
    assert model.config.vocab_size >= codes.max() + 1
    assert model.config.pad_token_id == tokenizer.token_to_id("<pad>")
    assert model.config.eos_token_id == 1
    model.save_pretrained(tmp_path / "trained")
    again = load(tmp_path / "trained")
    for name, weights in model.named_parameters():
        assert torch.equal(again.get_parameter(name), weights), name


def test_the_checkpoint_says_which_backbone_it_is(tmp_path: Path) -> None:
    t5, _ = from_checkpoint(save_t5(tmp_path / "t5"), dropout=0.0)
    assert isinstance(loss_of(t5), MultiTargetLoss)
    llama, _ = from_checkpoint(save_llama(tmp_path / "llama"), dropout=0.0)
    assert not isinstance(loss_of(llama), MultiTargetLoss)


def test_a_checkpoint_that_is_built_otherwise_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1}
    config = GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, **ends)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a gpt2; these can be exported: t5, llama"):
        from_checkpoint(tmp_path, dropout=0.0)


def test_a_decoder_alone_reads_tokens() -> None:
    assert not configure("demo", {"generator": {"backbone": "llama"}}).reads_items
    assert configure("demo", {}).reads_items
    with pytest.raises(ConfigError, match="use --inputs tokens"):
        configure("demo", {"generator": {"backbone": "llama", "inputs": "items"}})
