"""What each stage does: read the directories of earlier stages, write one of its own."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import Progress
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from offline.baselines import WINDOW, transition_table
from offline.build.blend import choose
from offline.build.config import (
    BuildConfig,
    CodesSection,
    EmbedderSection,
    GeneratorConfig,
    QueryEncoderSection,
)
from offline.build.drafts import draft, draft_manifest, link_or_copy, reissue, write_catalog
from offline.build.precision import LIMIT, PrecisionLoss, measure_loss
from offline.build.precision import questions as precision_questions
from offline.build.publish import prompt_text, read_json, write_json
from offline.codes import CodesConfig, assign
from offline.dataset import Dataset
from offline.embeddings import (
    MIN_RECALL,
    EmbedderConfig,
    embed_texts,
    export_text_encoder,
    load_embedder,
    quantize_text_encoder,
)
from offline.evaluate.protocol import questions
from offline.evaluate.report import evaluate_bundle, print_report
from offline.generator.examples import ExampleSource
from offline.generator.export.files import HEAD, GeneratorExport, export_generator
from offline.generator.export.parity import compare
from offline.generator.model import fit_vocabulary, from_checkpoint, from_preset, special_tokens
from offline.generator.tokenizer import UNK, extend, from_scratch
from offline.generator.train import train
from offline.query_encoder import QueryEncoderConfig, export_query_encoder, train_query_encoder
from runtime.bundle import Bundle, write_bundle
from runtime.manifest import Precision
from services.candidate.space import Space, SpaceName
from services.generator.codes import code_tokens, read_code_texts, write_code_texts
from services.generator.engine import Context, Generation, GeneratorEngine, Query
from services.generator.prompts import SEQUENTIAL, read_templates, render_ids, select

CALIBRATION_USERS: Final = 128


def embed(dataset: Path, section: EmbedderSection, out: Path) -> None:
    """The content space, and the text encoder that serves queries into it."""
    data = Dataset.load(dataset)
    embedder = load_embedder(EmbedderConfig(model=section.model, prompt=section.prompt))
    texts = [item.text for item in data.items]
    vectors = embed_texts(embedder, texts)
    Space.write(out, SpaceName.CONTENT, vectors)
    encoder = export_text_encoder(embedder, out, texts[:16])
    recall = quantize_text_encoder(embedder, out, texts, vectors)
    facts = {
        "text_prefix": encoder.prompt,
        "max_text_tokens": encoder.max_length,
        "text_precision": "int8" if (recall or 0.0) >= MIN_RECALL else "fp32",
        "int8_recall_at_10": recall,
    }
    write_json(out / "facts.json", facts)


def assign_codes(
    dataset: Path, vectors: Path | None, section: CodesSection, seed: int, out: Path
) -> None:
    """A code for every item, as text; `vectors` is the file of those that codes are made from."""
    levels = 1 if section.style == "text" else section.levels
    codes = assign(
        section.kind,
        Dataset.load(dataset),
        None if vectors is None else np.load(vectors, allow_pickle=False),
        CodesConfig(levels=levels, seed=seed),
    )
    if section.style == "text":
        texts = [f"item_{number}" for number in codes.levels[:, 0].tolist()]
    else:
        texts = codes.texts()
    write_code_texts(out / "codes.txt", texts)


def train_retrieval(
    dataset: Path, embeddings: Path, section: QueryEncoderSection, seed: int, out: Path
) -> None:
    """The query encoder and the behavior space."""
    with Progress() as progress:
        trained = train_query_encoder(
            Dataset.load(dataset),
            np.load(embeddings / "content_vectors.npy"),
            QueryEncoderConfig(epochs=section.epochs, seed=seed),
            checkpoint_path=out / "checkpoint.safetensors",
            progress=progress,
        )
    export = export_query_encoder(trained, out)
    write_json(out / "facts.json", {"max_history": export.max_history})
    (out / "checkpoint.safetensors").unlink(missing_ok=True)


def count_transitions(dataset: Path, out: Path) -> None:
    """What follows what in the training data."""
    table = transition_table(Dataset.load(dataset))
    for name in ("indptr", "items", "weights"):
        np.save(out / f"transitions_{name}.npy", getattr(table, name), allow_pickle=False)
    write_json(out / "facts.json", {"window": WINDOW, "decay": table.decay})


def train_generator(
    dataset: Path, codes: Path, section: GeneratorConfig, seed: int, out: Path
) -> None:
    """The P5 model, its tokenizer, and the codes in its tokens."""
    import torch

    data = Dataset.load(dataset)
    texts = read_code_texts(codes / "codes.txt")
    (out / "prompts.txt").write_text(prompt_text(section.prompts), encoding="utf-8")
    templates = read_templates(out / "prompts.txt")
    torch.manual_seed(seed)
    if section.checkpoint is None:
        tokenizer = from_scratch(templates, data.name, texts)
        model = from_preset(section.preset, tokenizer, dropout=section.dropout)
    else:
        model, tokenizer = from_checkpoint(section.checkpoint, dropout=section.dropout)
        tokenizer = extend(tokenizer, texts)
        fit_vocabulary(model, tokenizer)
    pad, eos = special_tokens(model)
    tokens = code_tokens(tokenizer, texts, eos=eos, pad=pad, unknown=tokenizer.token_to_id(UNK))
    source = ExampleSource(
        sequences=data.train(),
        codes=tokens,
        code_texts=texts,
        templates=templates,
        tokenizer=tokenizer,
        dataset=data.name,
        max_history=section.max_history,
        max_tokens=section.max_input_tokens,
        targets=section.targets,
        direct_share=section.direct_share,
        history_dropout=section.history_dropout,
        pad=pad,
        seed=seed,
    )
    train(model, source, section.train.model_copy(update={"seed": seed}), out)
    tokenizer.save(str(out / "tokenizer.json"))
    np.save(out / "code_tokens.npy", tokens, allow_pickle=False)
    model.save_pretrained(out / "model")
    (out / "checkpoint.safetensors").unlink(missing_ok=True)


def export(parts: Mapping[str, Path], config: BuildConfig, name: str, out: Path) -> None:
    """A draft of the bundle, whole but for its weights and metrics, that agrees with the model.

    8-bit products that lose too much get their head in float32; where that does not help, the
    bundle does without them.

    Raises:
        ParityError: the exported graphs do not compute what the model computes.
    """
    model = T5ForConditionalGeneration.from_pretrained(parts["generator"] / "model")
    model.train(False)
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


def _attempts(precisions: tuple[Precision, ...]) -> Iterator[dict[str, Any]]:
    """What to change about an export, until its 8-bit products keep their quality."""
    yield {"precisions": precisions}
    if "int8" in precisions:
        yield {"precisions": precisions, "in_float32": frozenset({HEAD})}
        yield {"precisions": tuple(p for p in precisions if p != "int8")}


def _draft(
    model: T5ForConditionalGeneration,
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
    texts = read_code_texts(parts["codes"] / "codes.txt")
    template = select(read_templates(generator / "prompts.txt"), SEQUENTIAL, "seen")[0]
    sequences = data.train()
    users = np.random.default_rng(config.seed).permutation(len(sequences))[:CALIBRATION_USERS]
    calibration = [
        render_ids(
            template,
            lambda text: list(tokenizer.encode(text).ids),
            dataset=data.name,
            user=int(user),
            history=[texts[i] for i in sequences[user][-section.max_history :]],
            max_tokens=section.max_input_tokens,
        )
        for user in users
    ]
    return GeneratorExport(
        tokenizer=tokenizer,
        code_texts=texts,
        codes=np.load(generator / "code_tokens.npy", allow_pickle=False),
        prompts=(generator / "prompts.txt").read_text(encoding="utf-8"),
        max_input_tokens=section.max_input_tokens,
        max_history=section.max_history,
        beams=section.beams,
        calibration=calibration,
    )


def _require_parity(
    bundle: Bundle, model: T5ForConditionalGeneration, config: BuildConfig
) -> dict[str, Any]:
    """Compares the draft's generator with transformers for real users."""
    engine = GeneratorEngine.load(bundle, precision="fp32")
    nothing = np.empty(0, dtype=np.int32)
    wish = Generation(config.generator.beams, None, nothing)
    queries = [
        Query(Context(question.user, question.history), wish)
        for question in questions(bundle, "test")[: config.parity_users]
    ]
    with Progress() as progress:
        task = progress.add_task("Comparing with transformers", total=len(queries))
        parity = compare(engine, model, queries, advance=lambda n: progress.advance(task, n))
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


def choose_blend(export: Path, shortlist: int, out: Path) -> None:
    """The weights of the retrieval and of the final score."""
    bundle = draft(export)
    with Progress() as progress:
        blend = choose(bundle, GeneratorEngine.load(bundle), shortlist, progress)
    write_json(out / "blend.json", dataclasses.asdict(blend))


def evaluate(export: Path, blend: Path, out: Path) -> None:
    """The bundle with its weights, and what it reaches on the test items."""
    weights = read_json(blend / "blend.json")
    bundle = draft(export)
    manifest = bundle.manifest
    tuned = manifest.model_copy(
        update={
            "candidate": manifest.candidate.model_copy(
                update={
                    name: weights[name]
                    for name in (
                        "transition_window",
                        "transition_decay",
                        "transition_weight",
                        "content_weight",
                        "popularity_weight",
                    )
                }
            ),
            "blend": manifest.blend.model_copy(
                update={"generator_weight": weights["generator_weight"]}
            ),
        }
    )
    report = evaluate_bundle(Bundle.open(reissue(bundle, tuned, out), verify=False))
    print_report(report)
    agreement = read_json(export / "agreement.json")
    metrics = {**report.to_json(), "validation": weights, **agreement}
    write_json(out / "metrics.json", metrics)
