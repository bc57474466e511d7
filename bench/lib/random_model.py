"""Bundles of random models: as exact to check and as slow to run as trained ones, and soon made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from core.bundle import Bundle, write_bundle
from core.catalog import Catalog
from core.codes import code_tokens
from core.manifest import (
    BlendSection,
    CandidateSection,
    GeneratorSection,
    Manifest,
    Precision,
    Provenance,
)
from offline.generator.config import Backbone
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.tokenizer import RESPONSE, end_with_response, from_scratch
from services.generator.prompts import read_templates


@dataclass(frozen=True)
class RandomModel:
    """How a random model is made."""

    name: str
    shape: Mapping[str, Any]
    """Of the configuration of its backbone."""
    widths: Sequence[int]
    """How many values each level of a code has."""
    prompts: str
    prompt_tokens: int
    beams: int
    precisions: tuple[Precision, ...]
    vocabulary: int = 0
    """Tokens that its head tells apart; 0 for as many as the tokenizer has."""
    backbone: Backbone = "t5"
    text_tokens: int = 0
    """Of a text that it writes, at most; 0 where it writes none."""

    def export(
        self, directory: Path, catalog: Catalog, texts: Sequence[str], users: Sequence[str] = ()
    ) -> "Subject":
        """Makes it and a bundle of it.

        Args:
            directory: an empty one.
            catalog: its items.
            texts: the code of each item, as prompts show it.
            users: whom prompts may name.
        """
        (directory / "prompts.txt").write_text(self.prompts, encoding="utf-8")
        every = [level_token(i, n) for i, width in enumerate(self.widths) for n in range(width)]
        templates = read_templates(directory / "prompts.txt")
        tokenizer = from_scratch(templates, self.name, every, ends=self.backbone == "t5")
        if self.backbone == "llama":
            end_with_response(tokenizer, RESPONSE)
        model = self._model(self.vocabulary or tokenizer.get_vocab_size())
        staged = directory / "staged"
        staged.mkdir()
        generator = export_generator(model, self._parts(tokenizer, texts), staged)
        written = manifest(self.name, generator, items=len(texts), users=len(users))
        with write_bundle(directory, written) as bundle:
            catalog.write(bundle / "catalog.jsonl")
            (bundle / "users.json").write_text(json.dumps(users), encoding="utf-8")
            np.save(bundle / "histories_indptr.npy", np.zeros(len(users) + 1, np.int64))
            np.save(bundle / "histories_items.npy", np.empty(0, np.int32))
            for file in staged.iterdir():
                file.replace(bundle / file.name)
        path = directory / written.name / written.version
        return Subject(model, tokenizer, Bundle.open(path, verify=False))

    def _model(self, vocabulary: int) -> PreTrainedModel:
        torch.manual_seed(0)
        ends: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1}
        model: PreTrainedModel
        if self.backbone == "t5":
            ends["decoder_start_token_id"] = 0
            model = T5ForConditionalGeneration(
                T5Config(vocab_size=vocabulary, **ends, **self.shape)
            )
        else:
            ends["bos_token_id"] = None
            model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **ends, **self.shape))
        model.train(False)
        return model

    def _parts(self, tokenizer: Tokenizer, texts: Sequence[str]) -> GeneratorExport:
        codes = code_tokens(tokenizer, texts, eos=1, pad=0, unknown=2)
        rng = np.random.default_rng(2)
        history = self.prompt_tokens // len(self.widths)
        histories = rng.integers(0, len(codes), (16, history))
        prompts = [codes[items].flatten().tolist() for items in histories]
        return GeneratorExport(
            tokenizer=tokenizer,
            code_texts=texts,
            codes=codes,
            prompts=self.prompts,
            max_input_tokens=self.prompt_tokens,
            max_history=history,
            beams=self.beams,
            precisions=self.precisions,
            calibration=prompts,
            text_tokens=self.text_tokens,
            text_prompts=prompts[:4] if self.text_tokens else (),
        )


@dataclass(frozen=True)
class Subject:
    """A model, and the bundle that was exported from it."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    bundle: Bundle


def level_token(level: int, value: int) -> str:
    """A value of a level of codes, as prompts show it."""
    return f"<{'abcd'[level]}_{value}>"


def random_levels(widths: Sequence[int], items: int) -> NDArray[np.int64]:
    """Distinct random codes. Shape [items, levels]."""
    numbers = np.random.default_rng(0).permutation(int(np.prod(widths)))[:items]
    return np.stack(np.unravel_index(numbers, tuple(widths)), axis=1)


def code_texts(levels: NDArray[np.int64]) -> list[str]:
    """Codes as prompts show them."""
    return ["".join(level_token(i, v) for i, v in enumerate(row)) for row in levels.tolist()]


def manifest(name: str, generator: GeneratorSection, *, items: int, users: int = 0) -> Manifest:
    """The manifest of a bundle with a generator, and nothing else that counts."""
    return Manifest(
        name=name,
        version="1",
        items=items,
        users=users,
        candidate=CandidateSection(
            max_history=1,
            transition_window=1,
            transition_decay=1,
            behavior_weight=1,
            transition_weight=0,
        ),
        generator=generator,
        blend=BlendSection(retrieval_weight=1, generator_weight=1, shortlist=100),
        provenance=Provenance(
            dataset=name, seed=0, config={}, git_revision="", created="", libraries={}
        ),
    )
