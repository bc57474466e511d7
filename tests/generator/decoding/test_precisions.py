"""Precisions below float32: what they may cost, and that answers stand on their own in all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import T5ForConditionalGeneration

from core.errors import BundleError, SettingsError
from core.manifest import Precision
from offline.generator.export.calibrate import observe, smooth
from offline.generator.export.llama.layers import LlamaWeights
from offline.generator.export.parity import prompts_of
from offline.generator.export.t5.layers import T5Weights
from services.generator.decoding.engine import GeneratorEngine, RankingQuery
from services.generator.decoding.providers import Compute, choose_precision
from tests.generator.decoding.test_engine import random_context, wish
from tests.generator.made_up import (
    COMPUTE,
    EXACT_INT8,
    Backbone,
    MadeUp,
    level_texts,
    random_levels,
    random_llama,
    random_t5,
    write_made_up,
)

LOWER: tuple[Precision, ...] = ("int8", "fp16")
CPU = Compute(threads=1)
LARGEST_ERROR: dict[Precision, float] = {"int8": 0.25, "fp16": 0.02}
"""Of the log-probability of 3 tokens. Random weights round worse than trained ones."""


MODELS: dict[str, tuple[Backbone, dict[str, object]]] = {
    "relu": ("t5", {"feed_forward_proj": "relu"}),
    "gated-gelu": ("t5", {"feed_forward_proj": "gated-gelu"}),
    "llama": ("llama", {"initializer_range": 0.1}),
    "qwen2": ("qwen2", {"initializer_range": 0.1}),
}


@pytest.fixture(scope="module", params=MODELS)
def precise(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    backbone, changes = MODELS[request.param]
    return write_made_up(
        tmp_path_factory.mktemp("precise"),
        level_texts(random_levels(300, (7, 7, 7))),
        backbone=backbone,
        changes=changes,
        precisions=("fp32", *LOWER),
    )


def _compute(precision: Precision) -> Compute:
    return CPU if precision == "int8" else COMPUTE


@pytest.mark.parametrize("precision", [pytest.param("int8", marks=EXACT_INT8), "fp16"])
def test_scores_stay_near_those_of_fp32(precise: MadeUp, precision: Precision) -> None:
    engine = GeneratorEngine.load(precise.bundle, _compute(precision), precision)
    rng = np.random.default_rng(1)
    everything = np.arange(precise.items, dtype=np.int32)
    for _ in range(5):
        context = random_context(rng, precise.items)
        expected = precise.exact(context)
        (ranked,) = engine.generate([wish(context, precise.items)])
        (reranked,) = engine.rerank([RankingQuery(context, shortlist=everything)])
        assert sorted(ranked.items.tolist()) == everything.tolist()
        for found in (ranked, reranked):
            error = np.abs(found.scores - expected[found.items]).max()
            assert 0 < error < LARGEST_ERROR[precision]
        np.testing.assert_allclose(ranked.scores, reranked.scores, atol=1e-2)


@pytest.mark.parametrize("precision", ["fp32", *LOWER])
def test_an_answer_does_not_depend_on_its_neighbors(precise: MadeUp, precision: Precision) -> None:
    """A neighbor with a longer prompt pads it; one with larger activations must not rescale it."""
    engine = GeneratorEngine.load(precise.bundle, _compute(precision), precision)
    rng = np.random.default_rng(2)
    queries = [wish(random_context(rng, precise.items), 20) for _ in range(8)]
    for query, together in zip(queries, engine.generate(queries), strict=True):
        (alone,) = engine.generate([query])
        np.testing.assert_array_equal(alone.items, together.items)
        np.testing.assert_allclose(alone.scores, together.scores, atol=1e-4)


def test_smoothing_changes_nothing_but_the_ranges() -> None:
    model = random_t5(60, {"feed_forward_proj": "relu"})
    encoder: Any = model.encoder
    with torch.no_grad():  # a channel that is much larger than the others
        encoder.block[0].layer[0].layer_norm.weight[3] = 80.0
    weights = T5Weights.of(model)
    rng = np.random.default_rng(0)
    codes = rng.integers(3, 60, (20, 3)).astype(np.int32)
    prompts = [rng.integers(3, 60, 12).tolist() for _ in range(8)]
    peaks = observe(model, prompts, codes)
    smoothed = smooth(weights, peaks)
    state = {name: torch.from_numpy(array) for name, array in smoothed.model.arrays.items()}
    again = random_t5(60, {"feed_forward_proj": "relu"})
    again.lm_head.weight = torch.nn.Parameter(again.lm_head.weight.clone())  # no longer tied
    again.load_state_dict(state, strict=False)
    ids, labels = torch.tensor([prompts[0]]), torch.from_numpy(codes[:1].astype(np.int64))
    with torch.inference_mode():
        expected, found = (m(input_ids=ids, labels=labels).logits for m in (model, again))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)
    # The largest value that a layer reads, over a typical one: what 8 bits have to span.
    layer = "encoder.block.0.layer.0.SelfAttention.q"
    after = observe(again, prompts, codes)[layer]
    assert after.max() / np.median(after) < 0.5 * peaks[layer].max() / np.median(peaks[layer])
    assert smoothed.ranges[layer] == pytest.approx(float(after.max()), rel=1e-3)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_smoothing_grouped_queries_changes_nothing_but_ranges(kind: Backbone) -> None:
    untied = {"tie_word_embeddings": False}
    model, again = (random_llama(60, untied, kind) for _ in range(2))
    attention = "model.layers.0.self_attn"
    with torch.no_grad():  # a channel of the values, which two heads read
        model.get_parameter(f"{attention}.v_proj.weight")[3] *= 80.0
    weights = LlamaWeights.of(model, 32)
    rng = np.random.default_rng(0)
    codes = rng.integers(3, 60, (20, 3)).astype(np.int32)
    prompts = [rng.integers(3, 60, 12).tolist() for _ in range(8)]
    peaks = observe(model, prompts, codes)
    smoothed = smooth(weights, peaks)
    arrays = {k: torch.from_numpy(v) for k, v in smoothed.model.arrays.items() if "rotary" not in k}
    again.load_state_dict(arrays)
    with torch.inference_mode():
        expected, found = (m(torch.tensor([prompts[0]])).logits for m in (model, again))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)
    layer = f"{attention}.o_proj"
    after = observe(again, prompts, codes)[layer]
    assert after.max() / np.median(after) < 0.5 * peaks[layer].max() / np.median(peaks[layer])
    assert smoothed.ranges[layer] == pytest.approx(float(after.max()), rel=1e-3)


def test_a_feed_forward_network_beyond_the_range_of_fp16(tmp_path: Path) -> None:
    """Real T5 checkpoints have them: see `Float16`."""
    large = write_made_up(
        tmp_path,
        level_texts(random_levels(60, (8, 8))),
        precisions=("fp32", "fp16"),
        change=_enlarge_wo,
    )
    context = random_context(np.random.default_rng(3), 60)
    with torch.inference_mode():
        prompt = torch.from_numpy(prompts_of(large.engine, [RankingQuery(context)]).input_ids)
        encoder: Any = large.model.encoder
        hidden = encoder(input_ids=prompt, output_hidden_states=True).hidden_states
    assert max(float(h.abs().max()) for h in hidden[:-1]) > float(np.finfo(np.float16).max)
    half = GeneratorEngine.load(large.bundle, COMPUTE, "fp16")
    (ranked,) = half.generate([wish(context, 60)])
    expected = large.exact(context)
    assert np.isfinite(ranked.scores).all()
    np.testing.assert_allclose(ranked.scores, expected[ranked.items], atol=0.1)


def _enlarge_wo(model: T5ForConditionalGeneration) -> None:
    encoder: Any = model.encoder
    with torch.no_grad():
        encoder.block[0].layer[1].DenseReluDense.wo.weight *= 1e6


HELD: tuple[Precision, ...] = ("fp32", "int8", "fp16")
GPU = Compute(providers=("CUDAExecutionProvider", "CPUExecutionProvider"))


def test_the_precision_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.generator.decoding.providers.multiplies_bytes", lambda: True)
    assert choose_precision("auto", HELD, Compute()) == "int8"
    assert choose_precision("auto", ("fp32", "fp16"), Compute()) == "fp32"
    assert choose_precision("auto", HELD, GPU) == "fp16"
    assert choose_precision("auto", ("fp32", "int8"), GPU) == "fp32"
    assert choose_precision("fp32", HELD, GPU) == "fp32"
    monkeypatch.setattr("services.generator.decoding.providers.multiplies_bytes", lambda: False)
    assert choose_precision("auto", HELD, Compute()) == "fp32"
    assert choose_precision("int8", HELD, Compute()) == "int8"


def test_a_precision_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(SettingsError, match="the bundle holds fp32, int8"):
        choose_precision("fp16", ("fp32", "int8"), Compute())
    with pytest.raises(SettingsError, match="int8 is for CPUs"):
        choose_precision("int8", HELD, GPU)


def test_one_precision_does_not_take_the_graphs_of_another(precise: MadeUp) -> None:
    path = precise.bundle.path
    kept = (path / "encode.int8.onnx").read_bytes()
    try:
        (path / "encode.int8.onnx").write_bytes((path / "encode.fp32.onnx").read_bytes())
        with pytest.raises(
            BundleError, match=r"encode.int8.onnx was exported for (weights|precision)"
        ):
            GeneratorEngine.load(precise.bundle, CPU, "int8")
    finally:
        (path / "encode.int8.onnx").write_bytes(kept)
