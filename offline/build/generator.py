"""The stages of the generator: training it, and exporting it with all that belongs to it."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from core.bundle import Bundle, write_bundle
from core.codes import code_tokens, read_code_texts
from core.manifest import Precision
from offline.build.config import BuildConfig
from offline.build.drafts import draft, draft_manifest, link_or_copy, write_catalog
from offline.build.precision import LIMIT, PrecisionLoss, measure_loss
from offline.build.precision import questions as precision_questions
from offline.build.publish import prompt_text, write_json
from offline.dataset import Dataset
from offline.evaluate.protocol import questions
from offline.generator.export.files import HEAD, GeneratorExport, export_generator
from offline.generator.export.item_parity import compare_items
from offline.generator.export.parity import compare
from offline.generator.items.model import ItemT5
from offline.generator.items.train import ItemPrompts, train_items
from offline.generator.tokenizer import UNK, extend, from_scratch
from offline.generator.tokens.examples import ExampleSource
from offline.generator.tokens.model import (
    fit_vocabulary,
    from_checkpoint,
    from_preset,
    special_tokens,
)
from offline.generator.tokens.train import train
from offline.query_encoder.model import principal_components
from services.generator.decoding.engine import Context, Generation, GeneratorEngine, Query
from services.generator.prompts import (
    SEQUENTIAL,
    Template,
    read_templates,
    render_ids,
    select,
    user_text,
)

CALIBRATION_USERS: Final = 128

Model = ItemT5 | T5ForConditionalGeneration


def train_generator(parts: Mapping[str, Path], config: BuildConfig, out: Path) -> None:
    """The P5 model, its tokenizer, and the codes in its tokens.

    Args:
        parts: the directories of the stages `dataset`, `embeddings`, `codes`, and, for the vectors
            to start from, `query-encoder`.
        config: of the build.
        out: where to.
    """
    section = config.generator
    data = Dataset.load(parts["dataset"])
    texts = read_code_texts(parts["codes"] / "codes.txt")
    (out / "prompts.txt").write_text(prompt_text(section.prompts), encoding="utf-8")
    templates = read_templates(out / "prompts.txt")
    torch.manual_seed(config.seed)
    users = _user_tokens(config, data)
    if section.checkpoint is None:
        tokenizer = from_scratch(
            templates, data.name, texts, user_tokens=users, ends=not config.reads_items
        )
        t5 = from_preset(section.preset, tokenizer, dropout=section.dropout)
    else:
        t5, tokenizer = from_checkpoint(section.checkpoint, dropout=section.dropout)
        tokenizer = extend(tokenizer, texts)
        fit_vocabulary(t5, tokenizer)
    pad, eos = special_tokens(t5)
    tokens = code_tokens(tokenizer, texts, eos=eos, pad=pad, unknown=tokenizer.token_to_id(UNK))
    facts: dict[str, Any] = {"user_tokens": users}
    if config.reads_items:
        start = _start(parts, t5.config.d_model, config.seed)
        share = section.items.item_share_for(sum(map(len, data.train())), len(data.items))
        model = ItemT5(t5, start, tokens, share)
        prompts = ItemPrompts(templates, tokenizer, data.name, users)
        facts["curve"] = _train_items(model, data, prompts, config, out)
        model.save(out / "model")
    else:
        source = ExampleSource(
            sequences=data.train(),
            codes=tokens,
            code_texts=texts,
            templates=templates,
            tokenizer=tokenizer,
            dataset=data.name,
            max_history=section.max_history,
            max_tokens=section.max_input_tokens,
            targets=section.tokens.targets,
            direct_share=section.direct_share,
            history_dropout=section.history_dropout,
            pad=pad,
            seed=config.seed,
            user_tokens=users,
        )
        train(t5, source, section.tokens.model_copy(update={"seed": config.seed}), out)
        t5.save_pretrained(out / "model")
    tokenizer.save(str(out / "tokenizer.json"))
    np.save(out / "code_tokens.npy", tokens, allow_pickle=False)
    write_json(out / "facts.json", facts)
    (out / "checkpoint.safetensors").unlink(missing_ok=True)


def _start(parts: Mapping[str, Path], dimension: int, seed: int) -> NDArray[np.float32]:
    """Where the items' vectors start from: where the query encoder's ended, if there is one.

    Those began as the embeddings of the texts. A model of another size starts from the components
    of both.
    """
    content = np.load(parts["embeddings"] / "content_vectors.npy", allow_pickle=False)
    if "query-encoder" not in parts:
        return principal_components(content, dimension, seed)
    behavior: NDArray[np.float32] = np.load(
        parts["query-encoder"] / "behavior_vectors.npy", allow_pickle=False
    )
    if behavior.shape[1] == dimension:
        return behavior
    return principal_components(np.hstack([behavior, content]), dimension, seed)


def _user_tokens(config: BuildConfig, data: Dataset) -> int:
    """Tokens for users: none where no prompt names one, or where a checkpoint writes its own."""
    section = config.generator
    if section.checkpoint is not None or not section.direct_share:
        return 0
    return min(section.user_tokens, len(data.user_ids))


def _train_items(
    model: ItemT5, data: Dataset, prompts: ItemPrompts, config: BuildConfig, out: Path
) -> dict[int, float]:
    section = config.generator
    loop = section.items.loop.model_copy(update={"seed": config.seed})
    with Progress() as bar:
        return train_items(
            model,
            data,
            prompts,
            section.items.model_copy(update={"loop": loop}),
            max_history=section.max_history,
            direct_share=section.direct_share,
            history_dropout=section.history_dropout,
            directory=out,
            bar=bar,
        )


def export(parts: Mapping[str, Path], config: BuildConfig, name: str, out: Path) -> None:
    """A draft of the bundle, whole but for its weights and metrics, that agrees with the model.

    8-bit products that lose too much get their head in float32; where that does not help, the
    bundle does without them.

    Raises:
        ParityError: the exported graphs do not compute what the model computes.
    """
    model = _load(parts["generator"], config)
    facts: dict[str, object] = {}
    for changes in _attempts(config.generator.precisions):
        bundle = _draft(model, parts, config, name, changes, out)
        if "parity" not in facts:
            facts["parity"] = _require_parity(bundle, model, config)
        if "int8" not in bundle.manifest.generator.precisions:
            break
        loss = _measure_int8(bundle)
        facts["int8"] = dataclasses.asdict(loss)
        if loss.relative_loss <= LIMIT:
            break
    write_json(out / "agreement.json", facts)


def _load(directory: Path, config: BuildConfig) -> Model:
    if config.reads_items:
        codes = np.load(directory / "code_tokens.npy", allow_pickle=False)
        return ItemT5.load(directory / "model", codes)
    model = T5ForConditionalGeneration.from_pretrained(directory / "model")
    model.train(False)
    return model


def _attempts(precisions: tuple[Precision, ...]) -> Iterator[dict[str, Any]]:
    """What to change about an export, until its 8-bit products keep their quality."""
    yield {"precisions": precisions}
    if "int8" in precisions:
        yield {"precisions": precisions, "in_float32": frozenset({HEAD})}
        yield {"precisions": tuple(p for p in precisions if p != "int8")}


def _draft(
    model: Model,
    parts: Mapping[str, Path],
    config: BuildConfig,
    name: str,
    changes: dict[str, Any],
    out: Path,
) -> Bundle:
    data = Dataset.load(parts["dataset"])
    staged = out / "generator"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.rmtree(out / name, ignore_errors=True)
    staged.mkdir()
    exported = dataclasses.replace(_generator_parts(data, parts, config), **changes)
    manifest = draft_manifest(data, config, name, export_generator(model, exported, staged), parts)
    with write_bundle(out, manifest) as directory:
        write_catalog(data, directory)
        served = ("embeddings", "query-encoder", "index", "transitions")
        for source in (*(parts[part] for part in served), staged):
            for file in source.iterdir():
                if file.name != "facts.json":  # what the manifest says
                    link_or_copy(file, directory / file.name)
    return draft(out)


def _generator_parts(
    data: Dataset, parts: Mapping[str, Path], config: BuildConfig
) -> GeneratorExport:
    generator, section = parts["generator"], config.generator
    tokenizer = Tokenizer.from_file(str(generator / "tokenizer.json"))
    templates = read_templates(generator / "prompts.txt")
    users = _user_tokens(config, data)
    prompts = ItemPrompts(templates, tokenizer, data.name, users)
    histories = _calibration_histories(data, config)
    words = prompts.words(prompts.serving, None)
    read = section.max_history if config.reads_items else 0
    return GeneratorExport(
        tokenizer=tokenizer,
        code_texts=read_code_texts(parts["codes"] / "codes.txt"),
        codes=np.load(generator / "code_tokens.npy", allow_pickle=False),
        prompts=(generator / "prompts.txt").read_text(encoding="utf-8"),
        max_input_tokens=section.max_input_tokens + read,
        max_history=section.max_history,
        beams=section.beams,
        calibration=() if config.reads_items else _calibration(histories, prompts, parts, config),
        user_tokens=users,
        words=words,
        histories=list(histories.values()),
        content=np.load(parts["embeddings"] / "content_vectors.npy"),
        interactions=np.bincount(np.concatenate(data.train()), minlength=len(data.items)),
    )


def _calibration_histories(data: Dataset, config: BuildConfig) -> dict[int, Any]:
    """The newest training items of some users, by user."""
    sequences = data.train()
    users = np.random.default_rng(config.seed).permutation(len(sequences))
    some = [int(user) for user in users if len(sequences[user])][:CALIBRATION_USERS]
    return {user: sequences[user][-config.generator.max_history :] for user in some}


def _calibration(
    histories: Mapping[int, Any],
    prompts: ItemPrompts,
    parts: Mapping[str, Path],
    config: BuildConfig,
) -> list[list[int]]:
    """Prompts of tokens as they are served."""
    texts = read_code_texts(parts["codes"] / "codes.txt")
    template: Template = select(prompts.templates, SEQUENTIAL, "seen")[0]
    return [
        render_ids(
            template,
            lambda text: list(prompts.tokenizer.encode(text).ids),
            dataset=prompts.dataset,
            user=user_text(user, prompts.user_tokens),
            history=[texts[i] for i in history],
            max_tokens=config.generator.max_input_tokens,
        )
        for user, history in histories.items()
    ]


def _require_parity(bundle: Bundle, model: Model, config: BuildConfig) -> dict[str, Any]:
    """Compares the draft's generator with the model itself, for real users."""
    engine = GeneratorEngine.load(bundle, precision="fp32")
    nothing = np.empty(0, dtype=np.int32)
    wish = Generation(config.generator.beams, None, nothing)
    queries = [
        Query(Context(question.user, question.history), wish)
        for question in questions(bundle, "test")[: config.parity_users]
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
    return dataclasses.asdict(parity)


def _measure_int8(bundle: Bundle) -> PrecisionLoss:
    asked = precision_questions(bundle)
    with Progress() as progress:
        task = progress.add_task("Comparing int8 with fp32", total=2 * len(asked))
        loss = measure_loss(bundle, "int8", asked, lambda n: progress.advance(task, n))
        progress.console.print(
            f"int8 loses {loss.relative_loss:+.2%} (± {loss.half_width:.2%}) of the NDCG@10 of "
            f"fp32 over {loss.questions} rankings; at most {LIMIT:.0%} may be lost"
        )
    return loss
