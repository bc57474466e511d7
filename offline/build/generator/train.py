"""Training the generator that a build asks for, and what belongs to it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer
from transformers import PreTrainedModel, T5ForConditionalGeneration

from core.codes import code_tokens, read_code_texts
from offline.build.files import FACTS, read_json, write_json
from offline.build.generator.families import (
    read_ratings,
    read_written,
    save_texts,
    text_material,
)
from offline.dataset.errors import DataError
from offline.dataset.schema import Dataset
from offline.generator.items.expected import ExpectedItems, expect
from offline.generator.items.model import ItemT5
from offline.generator.items.train import ItemPrompts, train_items
from offline.generator.subwords import from_texts
from offline.generator.texts.learned import TextMaterial
from offline.generator.tokenizer import UNK, extend, from_scratch, level_ids
from offline.generator.tokens.backbones import (
    from_checkpoint,
    from_preset,
    loss_of,
    require_positions,
)
from offline.generator.tokens.examples import ExampleSource
from offline.generator.tokens.model import fit_vocabulary, special_tokens
from offline.generator.tokens.ratings import TokenRatings
from offline.generator.tokens.rows import start_from_texts
from offline.generator.tokens.train import train_tokens
from offline.query_encoder.model import principal_components
from offline.ratings.rated import RATING_PARTS, Ratings, rating_codes
from offline.reviews.examples import Written
from offline.reviews.parts import Part
from offline.training.families import Family
from offline.warm.before import Before
from offline.warm.vocabulary import Vocabulary
from services.candidate.retrieval.encoders import OnnxQueryEncoder
from services.generator.decoding.ratings import RATING_CODES
from services.generator.prompts import TEXT, Template, read_templates

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
    ratings: Ratings | None
    """What is learned of ratings; None where the model does not rate."""
    writing: TextMaterial | None
    """What a family that writes text learns; None where none does."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the tokens stand for."""
        data = self.data
        return Vocabulary(
            self.tokenizer, self.codes, data.item_ids, data.user_ids, self.user_tokens
        )

    @property
    def rating_codes(self) -> NDArray[np.int32]:
        """The ratings as token ids, int32 [values, levels]."""
        values = 0 if self.ratings is None else len(self.ratings.values)
        return rating_codes(values, self.tokenizer, self.codes.shape[1], self.pad)


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
    templates = read_templates(out / "prompts.txt")
    made, material = _untrained(settings, data, earlier, templates, texts)
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
    if material.ratings is not None:
        np.save(out / RATING_CODES, material.rating_codes, allow_pickle=False)
        np.save(out / RATING_PARTS, material.ratings.parts, allow_pickle=False)
    ratings = () if material.ratings is None else material.ratings.values
    facts = {"user_tokens": material.user_tokens, "ratings": ratings, "curve": curve}
    if material.writing is not None:
        facts |= save_texts(material.writing, settings, out)
    write_json(out / FACTS, facts)
    (out / CHECKPOINT).unlink(missing_ok=True)


def _untrained(
    settings: "GeneratorSettings",
    data: Dataset,
    earlier: "Earlier",
    templates: Sequence[Template],
    texts: Sequence[str],
) -> tuple[PreTrainedModel, _Material]:
    """A model from scratch or from a checkpoint, whose tokenizer knows the codes."""
    model, users = settings.model, _user_tokens(settings, data)
    written = read_written(settings, data, earlier["dataset"])
    ratings = read_ratings(settings, data, templates, earlier["dataset"])
    values = 0 if ratings is None else len(ratings.values)
    if model.checkpoint is None:
        tokenizer = _from_scratch(settings, data, templates, texts, written, values)
        made = from_preset(model.backbone, model.preset, tokenizer, dropout=model.dropout)
    else:
        dropout = 0.0 if model.lora else model.dropout
        source = earlier.get("pretrained") or model.checkpoint
        made, tokenizer = from_checkpoint(source, dropout=dropout)
        tokenizer = extend(tokenizer, texts, ratings=values)
        fit_vocabulary(made, tokenizer)
        start_from_texts(made, tokenizer, texts, [item.text for item in data.items])
    pad, eos = special_tokens(made)
    codes = code_tokens(tokenizer, texts, eos=eos, pad=pad, unknown=tokenizer.token_to_id(UNK))
    require_positions(made, model.max_input_tokens + codes.shape[1])
    writing = text_material(settings, written, templates, tokenizer, users) if written else None
    material = _Material(
        settings, data, templates, tokenizer, texts, codes, pad, users, ratings, writing
    )
    return made, material


def _from_scratch(
    settings: "GeneratorSettings",
    data: Dataset,
    templates: Sequence[Template],
    texts: Sequence[str],
    written: Written | None,
    ratings: int,
) -> Tokenizer:
    """Whole words of the prompts, or pieces of words for a model that writes text."""
    users = _user_tokens(settings, data)
    if written is None:
        asked = [t for t in templates if t.output != TEXT]
        ends = not settings.reads_items
        return from_scratch(asked, data.name, texts, user_tokens=users, ratings=ratings, ends=ends)
    return from_texts(
        written.training_texts(),
        templates,
        data.name,
        texts,
        user_tokens=users,
        ratings=ratings,
        pieces=settings.model.texts.pieces,
    )


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
    if material.ratings is not None:
        model.add_ratings(material.rating_codes[:, 0].tolist())
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
            rated=None if material.ratings is None else material.ratings.part(Part.TRAINING),
            start=None if before is None else lambda m: before.give(m, material.vocabulary),
            more=material.writing.families(model, settings.model.families)
            if material.writing
            else (),
            path=out / CHECKPOINT,
            bar=bar,
        )
    model.save(out / "model")
    return curve


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
        prompts=section.prompts,
        direct_share=settings.model.families.direct_fraction,
        history_dropout=settings.model.history_dropout,
        pad=material.pad,
        user_tokens=material.user_tokens,
    )
    others: list[tuple[Family[Any], float]] = []
    if (ratings := material.ratings) is not None:
        rated, codes = ratings.part(Part.TRAINING), material.rating_codes
        family = TokenRatings(loss_of(made), source, rated, codes, section.batch_size)
        others.append((family, settings.model.families.rating_share))
    with _adapted(made, material), Progress() as bar:
        train_tokens(
            made,
            source,
            section.model_copy(update={"loop": loop}),
            others=others,
            path=out / CHECKPOINT,
            bar=bar,
        )
    made.save_pretrained(out / "model")
    return {}


def _adapted(made: PreTrainedModel, material: _Material) -> AbstractContextManager[object]:
    """While the model is adapted, where that is asked for, instead of being trained whole."""
    section = material.settings.model.lora
    if section is None:
        return nullcontext()
    from offline.generator.tokens.lora import adapted  # peft takes seconds to import

    return adapted(made, section, level_ids(material.tokenizer, material.code_texts))
