"""A made-up generator: a random model, random codes, and the bundle that holds them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from core.bundle import Bundle, write_bundle
from core.catalog import Catalog, CatalogItem
from core.codes import code_tokens
from core.manifest import Manifest, Precision
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.export.parity import prompts_of
from offline.generator.items.model import ItemT5
from offline.generator.tokenizer import RESPONSE, end_with_response, from_scratch
from offline.ratings.rated import rating_codes
from services.generator.decoding.engine import GeneratorEngine, RankingQuery, UserContext
from services.generator.decoding.providers import Compute, execution_providers, multiplies_bytes
from services.generator.prompts import read_templates
from tests import tiny_bundle
from tests.skips import HARDWARE

PROMPTS = """\
sequential; seen; {history} , next; {target}
sequential; unseen; someone in {dataset} liked {history} . now ?; {target}
direct; seen; recommend an item to {user}; {target}
direct; unseen; what would {user} like ?; {target}
"""
EOS, PAD, UNKNOWN = 1, 0, 2
COMPUTE = Compute(execution_providers("auto"), threads=1)
"""A GPU where there is one: all tests of the engine hold there too."""


@dataclass(frozen=True)
class Served(ABC):
    """A bundle, and the engine that serves it."""

    bundle: Bundle
    engine: GeneratorEngine

    @property
    def items(self) -> int:
        return len(self.engine.snapshot.codes)

    @abstractmethod
    def exact(self, context: UserContext) -> NDArray[np.float32]:
        """The log-probability of every item, by brute force."""


EXACT_INT8 = pytest.mark.skipif(
    not multiplies_bytes(),
    reason=f"{HARDWARE}a CPU with VNNI; without it 8-bit products saturate, and float32 is served",
)


@dataclass(frozen=True)
class MadeUp(Served):
    """A model that reads tokens, and the bundle that was exported from it."""

    model: PreTrainedModel

    def exact(self, context: UserContext) -> NDArray[np.float32]:
        """The log-probability of every item, by teacher forcing in torch."""
        steps = self.steps(context, self.engine.snapshot.codes)
        pads = self.engine.snapshot.codes == self.engine.parts.section.pad_token
        scores: NDArray[np.float32] = np.where(pads, 0.0, steps).sum(1, dtype=np.float32)
        return scores

    def steps(self, context: UserContext, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """The log-probability of each token of some codes; the same shape."""
        prompt = torch.from_numpy(prompts_of(self.engine, [RankingQuery(context)]).input_ids)
        tokens = torch.from_numpy(codes.astype(np.int64))
        teach = _teach if self.model.config.is_encoder_decoder else _continue
        with torch.inference_mode():
            logits = teach(self.model, prompt, tokens)
        steps: NDArray[np.float32] = (
            logits.log_softmax(-1).gather(2, tokens[:, :, None])[:, :, 0].numpy()
        )
        return steps


def _teach(model: Any, prompt: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Logits [codes, levels, vocabulary] of an encoder and a decoder."""
    encoded = model.encoder(prompt).last_hidden_state.expand(len(codes), -1, -1)
    logits: torch.Tensor = model(encoder_outputs=(encoded,), labels=codes).logits
    return logits


def _continue(model: Any, prompt: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Logits [codes, levels, vocabulary] of a decoder-only model, each code after the prompt."""
    whole = torch.cat([prompt.expand(len(codes), -1), codes[:, :-1]], dim=1)
    logits: torch.Tensor = model(whole).logits[:, prompt.shape[1] - 1 :]
    return logits


def random_levels(items: int, sizes: tuple[int, ...], seed: int = 0) -> NDArray[np.int32]:
    """Distinct random codes."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(int(np.prod(sizes)))[:items]
    return np.stack(np.unravel_index(numbers, sizes), axis=1).astype(np.int32)


def level_texts(levels: NDArray[np.int32]) -> list[str]:
    return ["".join(f"<{chr(97 + i)}_{v}>" for i, v in enumerate(row)) for row in levels.tolist()]


def random_t5(vocabulary: int, changes: Mapping[str, object]) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": PAD, "pad_token_id": PAD, "eos_token_id": EOS,
    }  # fmt: skip
    config = T5Config(vocab_size=vocabulary, **{**settings, **changes})  # type: ignore[arg-type]
    model = T5ForConditionalGeneration(config)
    model.train(False)
    return model


def random_llama(
    vocabulary: int, changes: Mapping[str, object], backbone: "Backbone" = "llama"
) -> PreTrainedModel:
    """A decoder-only model whose queries share keys, and whose weights all have a say."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
        "initializer_range": 0.2, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": None,
    }  # fmt: skip
    config, kind = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[backbone]
    tied = {"tie_word_embeddings": backbone == "qwen2"}
    model: PreTrainedModel = kind(config(vocab_size=vocabulary, **{**settings, **tied, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.5)
            elif "norm" in name:
                parameter.uniform_(0.5, 1.5)
    model.train(False)
    return model


Backbone = Literal["t5", "llama", "qwen2", "qwen3"]
BACKBONES: tuple[Backbone, ...] = ("t5", "llama", "qwen2")


def random_model(
    tokenizer: Tokenizer, backbone: Backbone, changes: Mapping[str, object]
) -> PreTrainedModel:
    """A model of any backbone, with the tokenizer's vocabulary."""
    if backbone == "t5":
        return random_t5(tokenizer.get_vocab_size(), changes)
    return random_llama(tokenizer.get_vocab_size(), changes, backbone)


def write_made_up(
    root: Path,
    texts: list[str],
    *,
    version: str = "1",
    beams: int = 20,
    backbone: Backbone = "t5",
    changes: Mapping[str, object] = MappingProxyType({}),
    precisions: tuple[Precision, ...] = ("fp32",),
    change: Callable[[Any], None] = lambda _: None,
    histories: Mapping[str, list[int]] = MappingProxyType(tiny_bundle.HISTORIES),
    text_tokens: int = 0,
    prompts: str = PROMPTS,
    ratings: Sequence[float] = (),
) -> MadeUp:
    """Writes a bundle with a random generator for items with the given codes."""
    asked = prompts + ("rating; seen; rated : {history} {item}; {rating}\n" if ratings else "")
    (root / "prompts.txt").write_text(asked, encoding="utf-8")
    templates = read_templates(root / "prompts.txt")
    tokenizer = from_scratch(
        templates, "made-up", texts, ratings=len(ratings), ends=backbone == "t5"
    )
    if backbone != "t5":
        end_with_response(tokenizer, RESPONSE)
    codes = code_tokens(tokenizer, texts, eos=EOS, pad=PAD, unknown=UNKNOWN)
    model = random_model(tokenizer, backbone, changes)
    change(model)
    rng = np.random.default_rng(0)
    calibration = [tokenizer.encode("".join(rng.choice(texts, 8))).ids for _ in range(16)]
    parts = GeneratorExport(
        tokenizer,
        texts,
        codes,
        asked,
        64,
        10,
        beams,
        precisions,
        calibration=calibration,
        text_tokens=text_tokens,
        ratings=ratings,
        rating_codes=rating_codes(len(ratings), tokenizer, codes.shape[1], PAD),
    )
    bundle, engine = write_bundle_of(root, model, parts, version, histories)
    return MadeUp(bundle, engine, model)


def write_bundle_of(
    root: Path,
    model: PreTrainedModel | ItemT5,
    parts: GeneratorExport,
    version: str,
    histories: Mapping[str, list[int]],
) -> tuple[Bundle, GeneratorEngine]:
    """Exports a model into a bundle, and loads it."""
    texts = parts.code_texts
    catalog = Catalog(
        [
            CatalogItem(
                f"i{i}", f"Item {i}", f"Item {i}", {"parity": ("even", "odd")[i % 2 :][:1]}, 1
            )
            for i in range(len(texts))
        ]
    )
    staging = root / "staging"
    staging.mkdir(exist_ok=True)
    section = export_generator(model, parts, staging)
    manifest = Manifest.model_validate(
        {
            **dict(tiny_bundle.manifest(version)),
            "items": len(texts),
            "users": len(histories),
            "generator": section,
        }
    )
    with write_bundle(root, manifest) as directory:
        tiny_bundle.write_files(directory, histories)
        catalog.write(directory / "catalog.jsonl")
        if parts.ratings:
            interactions = sum(map(len, histories.values()))
            given = np.resize(np.array(parts.ratings, np.float32), interactions)
            np.save(directory / "histories_ratings.npy", given)
        for file in staging.iterdir():
            file.replace(directory / file.name)
    bundle = Bundle.open(root / "tiny" / version)
    return bundle, GeneratorEngine.load(bundle, COMPUTE, "fp32")
