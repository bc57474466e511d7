"""A draft of the bundle, whose generator agrees with the model that was trained."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.progress import Progress
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from core.bundle import Bundle, write_bundle
from core.catalog import ItemArray
from core.codes import read_code_texts
from core.manifest import Precision
from offline.build.drafts import SERVED, draft_manifest, link_or_copy, open_draft, write_catalog
from offline.build.files import FACTS, RECORD, read_json, write_json
from offline.build.precision import PrecisionLoss, measure_loss
from offline.build.precision import questions as precision_questions
from offline.dataset.schema import Dataset
from offline.evaluate.protocol import questions
from offline.generator.export.files import HEAD, GeneratorExport, export_generator
from offline.generator.export.item_parity import compare_items
from offline.generator.export.parity import compare
from offline.generator.export.rating_parity import require_equal_ratings
from offline.generator.items.model import ItemT5
from offline.generator.items.train import ItemPrompts
from offline.generator.tokens import backbones
from offline.ratings.rated import RATING_PARTS
from offline.reviews.held_out import FILE as HELD_OUT
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.ratings import RATING_CODES
from services.generator.prompts import SEQUENTIAL, read_templates, render_ids, select, user_text

if TYPE_CHECKING:
    from offline.build.stage import Earlier
    from offline.build.stages.export import ExportSettings

CALIBRATION_USERS: Final = 128
_NOT_SERVED: Final = frozenset({FACTS, RECORD})

Model = ItemT5 | PreTrainedModel


def export(settings: "ExportSettings", earlier: "Earlier", out: Path) -> None:
    """A draft of the bundle, whole but for its weights and metrics, that agrees with the model.

    8-bit products that lose too much get their head in float32; where that does not help, the
    bundle does without them.

    Raises:
        ParityError: the exported graphs do not compute what the model computes.
    """
    model = _load(earlier["generator"], reads_items=settings.reads_items)
    facts: dict[str, object] = {}
    for changes in _attempts(settings.precisions):
        bundle = _draft(model, settings, earlier, changes, out)
        if "parity" not in facts:
            facts["parity"] = _require_parity(bundle, model, settings)
        if "int8" not in bundle.manifest.generator.precisions:
            break
        loss = _measure_int8(bundle)
        facts["int8"] = loss.to_json()
        if loss.accepted:
            break
    write_json(out / "agreement.json", facts)


def _load(directory: Path, *, reads_items: bool) -> Model:
    if reads_items:
        codes = np.load(directory / "code_tokens.npy", allow_pickle=False)
        return ItemT5.load(directory / "model", codes)
    return backbones.load(directory / "model")


def _attempts(precisions: tuple[Precision, ...]) -> Iterator[dict[str, Any]]:
    """What to change about an export, until its 8-bit products keep their quality."""
    yield {"precisions": precisions}
    if "int8" in precisions:
        yield {"precisions": precisions, "in_float32": frozenset({HEAD})}
        yield {"precisions": tuple(p for p in precisions if p != "int8")}


def _draft(
    model: Model,
    settings: "ExportSettings",
    earlier: "Earlier",
    changes: dict[str, Any],
    out: Path,
) -> Bundle:
    data = Dataset.load(earlier["dataset"])
    staged = out / ".generator"  # no bundle has such a name
    shutil.rmtree(staged, ignore_errors=True)
    shutil.rmtree(out / settings.name, ignore_errors=True)
    staged.mkdir()
    exported = dataclasses.replace(_generator_export(data, settings, earlier), **changes)
    section = export_generator(model, exported, staged)
    if section.ratings:
        link_or_copy(earlier["generator"] / RATING_PARTS, staged / RATING_PARTS)
    manifest = draft_manifest(data, settings.name, section, settings.shortlist, earlier)
    with write_bundle(out, manifest) as directory:
        write_catalog(data, directory)
        for source in (*(earlier[stage] for stage in SERVED), staged):
            for file in source.iterdir():
                if file.name not in _NOT_SERVED:
                    link_or_copy(file, directory / file.name)
        if (texts := earlier["generator"] / HELD_OUT).exists():
            link_or_copy(texts, directory / texts.name)
    shutil.rmtree(staged)
    return open_draft(out)


def _generator_export(
    data: Dataset, settings: "ExportSettings", earlier: "Earlier"
) -> GeneratorExport:
    generator = earlier["generator"]
    tokenizer = Tokenizer.from_file(str(generator / "tokenizer.json"))
    facts = read_json(generator / FACTS)
    users, ratings = facts["user_tokens"], facts["ratings"]
    texts = read_code_texts(earlier["codes"] / "codes.txt")
    prompts = ItemPrompts(read_templates(generator / "prompts.txt"), tokenizer, data.name, users)
    histories = _calibration_histories(data, settings)
    calibration = [] if settings.reads_items else _calibration(histories, prompts, texts, settings)
    read = settings.max_history if settings.reads_items else 0
    return GeneratorExport(
        tokenizer=tokenizer,
        code_texts=texts,
        codes=np.load(generator / "code_tokens.npy", allow_pickle=False),
        prompts=(generator / "prompts.txt").read_text(encoding="utf-8"),
        max_input_tokens=settings.max_input_tokens + read,
        max_history=settings.max_history,
        beams=settings.beams,
        calibration=calibration,
        user_tokens=users,
        words=prompts.words(prompts.serving, None),
        histories=list(histories.values()),
        content=np.load(earlier["embeddings"] / "content_vectors.npy", allow_pickle=False),
        interactions=data.popularity(),
        text_tokens=facts.get("text_tokens", 0),
        ratings=ratings,
        rating_codes=np.load(generator / RATING_CODES, allow_pickle=False) if ratings else None,
        text_prompts=facts.get("text_prompts", ()),
    )


def _calibration_histories(data: Dataset, settings: "ExportSettings") -> dict[int, ItemArray]:
    """The newest training items of some users, by user."""
    sequences = data.train()
    users = np.random.default_rng(settings.seed).permutation(len(sequences))
    some = [int(user) for user in users if len(sequences[user])][:CALIBRATION_USERS]
    return {user: sequences[user][-settings.max_history :] for user in some}


def _calibration(
    histories: Mapping[int, ItemArray],
    prompts: ItemPrompts,
    texts: list[str],
    settings: "ExportSettings",
) -> list[list[int]]:
    """Prompts of tokens as they are served."""
    template = select(prompts.templates, SEQUENTIAL, "seen")[0]
    return [
        render_ids(
            template,
            lambda text: list(prompts.tokenizer.encode(text).ids),
            dataset=prompts.dataset,
            user=user_text(user, prompts.user_tokens),
            history=[texts[i] for i in history],
            max_tokens=settings.max_input_tokens,
        )
        for user, history in histories.items()
    ]


def _require_parity(bundle: Bundle, model: Model, settings: "ExportSettings") -> dict[str, Any]:
    """Compares the draft's generator with the model itself, for real users."""
    engine = GeneratorEngine.load(bundle, precision="fp32")
    nothing = np.empty(0, dtype=np.int32)
    wish = Generation(settings.beams, None, nothing)
    queries = [
        RankingQuery(UserContext(question.user, question.history), wish)
        for question in questions(bundle, "test")[: settings.parity_users]
    ]
    with Progress() as progress:
        task = progress.add_task("Comparing with the model", total=len(queries))

        def advance(count: int) -> None:
            progress.advance(task, count)

        if isinstance(model, ItemT5):
            parity = compare_items(engine, model, queries, advance=advance)
        else:
            parity = compare(engine, model, queries, advance=advance)
    parity.require()
    if isinstance(model, ItemT5) and bundle.manifest.generator.ratings:
        require_equal_ratings(engine, model)
    return dataclasses.asdict(parity)


def _measure_int8(bundle: Bundle) -> PrecisionLoss:
    asked = precision_questions(bundle)
    with Progress() as progress:
        task = progress.add_task("Comparing int8 with fp32", total=2 * len(asked))
        loss = measure_loss(bundle, "int8", asked, lambda n: progress.advance(task, n))
        progress.console.print(f"int8 {loss}")
    return loss
