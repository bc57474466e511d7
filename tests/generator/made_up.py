"""A made-up generator: a random T5, random codes, and the bundle that holds them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import T5Config, T5ForConditionalGeneration

from core.bundle import Bundle, write_bundle
from core.catalog import Catalog, CatalogItem
from core.codes import code_tokens
from core.manifest import Manifest, Precision
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.export.parity import prompts_of
from offline.generator.items.model import ItemT5
from offline.generator.tokenizer import from_scratch
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

    model: T5ForConditionalGeneration

    def exact(self, context: UserContext) -> NDArray[np.float32]:
        """The log-probability of every item, by teacher forcing in torch."""
        prompts = prompts_of(self.engine, [RankingQuery(context)]).to_dict()
        codes = torch.from_numpy(self.engine.snapshot.codes.astype(np.int64))
        pad = self.engine.parts.section.pad_token
        with torch.inference_mode():
            encoded = self.model.encoder(**{k: torch.from_numpy(v) for k, v in prompts.items()})
            logits = self.model(
                encoder_outputs=(encoded.last_hidden_state.expand(len(codes), -1, -1),),
                labels=codes,
            ).logits
        steps = logits.log_softmax(-1).gather(2, codes[:, :, None])[:, :, 0]
        scores: NDArray[np.float32] = steps.masked_fill(codes == pad, 0.0).sum(1).numpy()
        return scores


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


def write_made_up(
    root: Path,
    texts: list[str],
    *,
    version: str = "1",
    beams: int = 20,
    t5: Mapping[str, object] = MappingProxyType({}),
    precisions: tuple[Precision, ...] = ("fp32",),
    change: Callable[[T5ForConditionalGeneration], None] = lambda _: None,
    histories: Mapping[str, list[int]] = MappingProxyType(tiny_bundle.HISTORIES),
) -> MadeUp:
    """Writes a bundle with a random generator for items with the given codes."""
    (root / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    tokenizer = from_scratch(read_templates(root / "prompts.txt"), "made-up", texts)
    codes = code_tokens(tokenizer, texts, eos=EOS, pad=PAD, unknown=UNKNOWN)
    model = random_t5(tokenizer.get_vocab_size(), t5)
    change(model)
    rng = np.random.default_rng(0)
    prompts = [tokenizer.encode("".join(rng.choice(texts, 8))).ids for _ in range(16)]
    parts = GeneratorExport(
        tokenizer, texts, codes, PROMPTS, 64, 10, beams, precisions, calibration=prompts
    )
    bundle, engine = write_bundle_of(root, model, parts, version, histories)
    return MadeUp(bundle, engine, model)


def write_bundle_of(
    root: Path,
    model: T5ForConditionalGeneration | ItemT5,
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
        for file in staging.iterdir():
            file.replace(directory / file.name)
    bundle = Bundle.open(root / "tiny" / version)
    return bundle, GeneratorEngine.load(bundle, COMPUTE, "fp32")
