"""Training the generator that a build asks for, and what belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer
from transformers import PreTrainedModel, T5ForConditionalGeneration

from core.codes import code_tokens, read_code_texts
from offline.build.files import FACTS, read_json, write_json
from offline.dataset.errors import DataError
from offline.dataset.reviews import Reviews
from offline.dataset.schema import Dataset
from offline.evaluate.families.constants import candidates
from offline.generator.items.expected import ExpectedItems, expect
from offline.generator.items.model import ItemT5
from offline.generator.items.train import ItemPrompts, train_items
from offline.generator.subwords import from_texts
from offline.generator.texts.family import TextFamily
from offline.generator.texts.learned import NAMES, TextMaterial
from offline.generator.tokenizer import UNK, extend, from_scratch
from offline.generator.tokens.backbones import (
    from_checkpoint,
    from_preset,
    require_positions,
)
from offline.generator.tokens.examples import ExampleSource
from offline.generator.tokens.model import fit_vocabulary, special_tokens
from offline.generator.tokens.train import train_tokens
from offline.query_encoder.model import principal_components
from offline.reviews.examples import Written
from offline.reviews.held_out import HeldOut, sample, write_held_out
from offline.reviews.parts import Part
from offline.warm.before import Before
from offline.warm.vocabulary import Vocabulary
from services.candidate.retrieval.encoders import OnnxQueryEncoder
from services.generator.prompts import Template, read_templates

if TYPE_CHECKING:
    from offline.build.stage import Earlier
    from offline.build.stages.generator import GeneratorSettings

CHECKPOINT: Final = "checkpoint.safetensors"
"""Of a training that is not at its end."""


@dataclass(frozen=True)
class _Material:
    """What a model of either kind is trained with."""

    settings: "GeneratorSettings"
    data: Dataset
    templates: Sequence[Template]
    tokenizer: Tokenizer
    code_texts: Sequence[str]
    codes: NDArray[np.int32]
    """[items, levels] token ids."""
    pad: int
    user_tokens: int
    written: Written | None
    """What users wrote, where a family writes text."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the tokens stand for."""
        data = self.data
        return Vocabulary(
            self.tokenizer, self.codes, data.item_ids, data.user_ids, self.user_tokens
        )


def train_generator(settings: "GeneratorSettings", earlier: "Earlier", out: Path) -> None:
    """The P5 model, its tokenizer, and the codes in its tokens.

    Args:
        settings: of the model and its training.
        earlier: the directories of the stages `dataset`, `embeddings`, `codes`, and, for the
            vectors to start from and what to expect of users, `query-encoder`.
        out: where to.
    """
    (out / "prompts.txt").write_text(settings.prompts, encoding="utf-8")
    torch.manual_seed(settings.seed)
    data = Dataset.load(earlier["dataset"])
    texts = read_code_texts(earlier["codes"] / "codes.txt")
    written = _written(settings, data, earlier["dataset"])
    made, material = _untrained(settings, data, read_templates(out / "prompts.txt"), texts, written)
    before = Before(earlier["warm"]) if settings.warm else None
    if settings.reads_items:
        t5 = cast(T5ForConditionalGeneration, made)  # others are configured to read tokens
        start = _start(earlier, t5.config.d_model, settings.seed, data, before)
        curve = _train_items(t5, start, _expected(earlier, material), material, before, out)
    elif data.weights is not None:
        raise DataError(
            "a generator that reads tokens learns from all interactions alike: give those that "
            "count the same weight, or use --inputs items"
        )
    else:
        curve = _train_tokens(made, material, before, out)
    material.tokenizer.save(str(out / "tokenizer.json"))
    np.save(out / "code_tokens.npy", material.codes, allow_pickle=False)
    facts = {"user_tokens": material.user_tokens, "curve": curve}
    if written is not None:
        facts["text_tokens"] = settings.model.texts.max_tokens
        facts["text_prompts"] = _some_prompts(material)
        write_held_out(_held_out(written, settings), out)
    write_json(out / FACTS, facts)
    (out / CHECKPOINT).unlink(missing_ok=True)


def _untrained(
    settings: "GeneratorSettings",
    data: Dataset,
    templates: Sequence[Template],
    texts: Sequence[str],
    written: Written | None,
) -> tuple[PreTrainedModel, _Material]:
    """A model from scratch or from a checkpoint, whose tokenizer knows the codes."""
    model, users = settings.model, _user_tokens(settings, data)
    if model.checkpoint is None:
        tokenizer = _from_scratch(settings, data, templates, texts, written)
        made = from_preset(model.backbone, model.preset, tokenizer, dropout=model.dropout)
    else:
        made, tokenizer = from_checkpoint(model.checkpoint, dropout=model.dropout)
        tokenizer = extend(tokenizer, texts)
        fit_vocabulary(made, tokenizer)
    pad, eos = special_tokens(made)
    codes = code_tokens(tokenizer, texts, eos=eos, pad=pad, unknown=tokenizer.token_to_id(UNK))
    require_positions(made, model.max_input_tokens + codes.shape[1])
    return made, _Material(settings, data, templates, tokenizer, texts, codes, pad, users, written)


def _held_out(written: Written, settings: "GeneratorSettings") -> dict[str, HeldOut]:
    """What the families that write text are tested on."""
    return {
        name: HeldOut(
            sample(written, name, Part.VALIDATION),
            sample(written, name, Part.TEST),
            candidates([e.target for e in written.examples(name, Part.TRAINING)]),
        )
        for name in NAMES
        if getattr(settings.model.families, name)
    }


def _written(settings: "GeneratorSettings", data: Dataset, directory: Path) -> Written | None:
    """What users wrote, if a family writes text."""
    if not settings.model.families.write_text:
        return None
    if not settings.reads_items:
        raise DataError("explanations and summaries are written by models that read whole items")
    reviews = Reviews.load(directory)
    if reviews is None:
        raise DataError("explanations and summaries are learned from texts: name --review-column")
    return Written.of(data, reviews)


def _from_scratch(
    settings: "GeneratorSettings",
    data: Dataset,
    templates: Sequence[Template],
    texts: Sequence[str],
    written: Written | None,
) -> Tokenizer:
    """Whole words of the prompts, or pieces of words for a model that writes text."""
    users = _user_tokens(settings, data)
    if written is None:
        asked = [t for t in templates if t.output != "{text}"]
        ends = not settings.reads_items
        return from_scratch(asked, data.name, texts, user_tokens=users, ends=ends)
    pieces = settings.model.texts.pieces
    learned = written.training_texts()
    return from_texts(learned, templates, data.name, texts, user_tokens=users, pieces=pieces)


def _user_tokens(settings: "GeneratorSettings", data: Dataset) -> int:
    """Tokens for users: none where no prompt names one, or where a checkpoint writes its own."""
    if settings.model.checkpoint is not None or not settings.model.families.direct:
        return 0
    return min(settings.model.user_tokens, len(data.user_ids))


def _start(
    earlier: "Earlier", dimension: int, seed: int, data: Dataset, before: Before | None
) -> NDArray[np.float32]:
    """Where the items' vectors start from: where the query encoder's ended, or those of a bundle.

    The query encoder's began as the embeddings of the texts. A model of another size starts from
    the components of both.
    """
    content = np.load(earlier["embeddings"] / "content_vectors.npy", allow_pickle=False)
    if before is not None:
        return before.item_vectors(data, content)
    behavior: NDArray[np.float32] = np.load(
        earlier["query-encoder"] / "behavior_vectors.npy", allow_pickle=False
    )
    if behavior.shape[1] == dimension:
        return behavior
    return principal_components(np.hstack([behavior, content]), dimension, seed)


def _expected(earlier: "Earlier", material: _Material) -> ExpectedItems | None:
    """What the query encoder expects of users, if each of them has a token of their own."""
    data, trained = material.data, earlier["query-encoder"]
    if material.user_tokens < len(data.user_ids):
        return None
    encoder = OnnxQueryEncoder(trained / "query_encoder.onnx", threads=0)
    vectors = np.load(trained / "behavior_vectors.npy", allow_pickle=False)
    return expect(encoder, vectors, data.train(), read_json(trained / FACTS)["max_history"])


def _train_items(
    t5: T5ForConditionalGeneration,
    start: NDArray[np.float32],
    expected: ExpectedItems | None,
    material: _Material,
    before: Before | None,
    out: Path,
) -> dict[int, float]:
    settings, data = material.settings, material.data
    section = settings.model.items
    loop = section.loop.model_copy(update={"seed": settings.seed})
    share = section.item_share_for(sum(map(len, data.train())), len(data.items))
    model = ItemT5(t5, start, material.codes, share)
    with Progress() as bar:
        curve = train_items(
            model,
            data,
            ItemPrompts(material.templates, material.tokenizer, data.name, material.user_tokens),
            section.model_copy(update={"loop": loop}),
            max_history=settings.model.max_history,
            shares=settings.model.families,
            history_dropout=settings.model.history_dropout,
            expected=expected,
            start=None if before is None else lambda m: before.give(m, material.vocabulary),
            more=_text_families(material, model),
            path=out / CHECKPOINT,
            bar=bar,
        )
    model.save(out / "model")
    return curve


def _text_families(material: _Material, model: ItemT5) -> list[tuple[TextFamily, float]]:
    texts = _texts(material)
    return texts.families(model, material.settings.model.families) if texts else []


def _some_prompts(material: _Material) -> list[list[int]]:
    """What texts are asked for with: 8-bit products are fitted to them."""
    texts = _texts(material)
    return texts.some_prompts(material.settings.seed) if texts else []


def _texts(material: _Material) -> TextMaterial | None:
    """What the families that write text are made of, if there are any."""
    if material.written is None:
        return None
    settings = material.settings.model
    return TextMaterial(
        material.written,
        material.templates,
        material.tokenizer,
        material.user_tokens,
        settings.max_input_tokens + settings.max_history,
        settings.texts,
    )


def _train_tokens(
    made: PreTrainedModel, material: _Material, before: Before | None, out: Path
) -> dict[int, float]:
    settings = material.settings
    if before is not None:
        before.give(made, material.vocabulary)
    section = settings.model.tokens
    loop = section.loop.model_copy(update={"seed": settings.seed})
    source = ExampleSource(
        sequences=material.data.train(),
        codes=material.codes,
        code_texts=material.code_texts,
        templates=material.templates,
        tokenizer=material.tokenizer,
        dataset=material.data.name,
        max_history=settings.model.max_history,
        max_tokens=settings.model.max_input_tokens,
        targets=section.targets,
        direct_share=settings.model.families.direct_fraction,
        history_dropout=settings.model.history_dropout,
        pad=material.pad,
        user_tokens=material.user_tokens,
    )
    with Progress() as bar:
        train_tokens(
            made, source, section.model_copy(update={"loop": loop}), path=out / CHECKPOINT, bar=bar
        )
    made.save_pretrained(out / "model")
    return {}
