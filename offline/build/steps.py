"""What each stage does: read the directories of earlier stages, write one of its own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

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
from offline.build.publish import prompt_text, read_json, write_json
from offline.codes import CodesConfig, assign
from offline.dataset import Dataset
from offline.embeddings import EmbedderConfig, embed_texts, export_text_encoder, load_embedder
from offline.evaluate.protocol import questions
from offline.evaluate.report import evaluate_bundle, print_report
from offline.generator.examples import ExampleSource
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.export.parity import compare
from offline.generator.model import fit_vocabulary, from_checkpoint, from_preset, special_tokens
from offline.generator.tokenizer import UNK, extend, from_scratch
from offline.generator.train import train
from offline.query_encoder import QueryEncoderConfig, export_query_encoder, train_query_encoder
from runtime.bundle import Bundle, write_bundle
from runtime.manifest import GeneratorSection
from services.candidate.engine import Space, SpaceName
from services.generator.codes import code_tokens, read_code_texts, write_code_texts
from services.generator.engine import Context, GenerateQuery, GeneratorEngine
from services.generator.prompts import read_templates


def embed(dataset: Path, section: EmbedderSection, out: Path) -> None:
    """The content space, and the text encoder that serves queries into it."""
    data = Dataset.load(dataset)
    embedder = load_embedder(EmbedderConfig(model=section.model, prompt=section.prompt))
    texts = [item.text for item in data.items]
    Space.write(out, SpaceName.CONTENT, embed_texts(embedder, texts))
    encoder = export_text_encoder(embedder, out, texts[:16])
    facts = {"text_prefix": encoder.prompt, "max_text_tokens": encoder.max_length}
    write_json(out / "facts.json", facts)


def assign_codes(
    dataset: Path, embeddings: Path, section: CodesSection, seed: int, out: Path
) -> None:
    """A code for every item, as text."""
    data = Dataset.load(dataset)
    vectors = np.load(embeddings / "content_vectors.npy") if section.kind == "semantic" else None
    levels = 1 if section.style == "text" else section.levels
    codes = assign(section.kind, data, vectors, CodesConfig(levels=levels, seed=seed))
    codes.save(out)
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

    Raises:
        ParityError: the exported graphs do not compute what the model computes.
    """
    data = Dataset.load(parts["dataset"])
    model = T5ForConditionalGeneration.from_pretrained(parts["generator"] / "model")
    model.train(False)
    staged = out / "generator"
    staged.mkdir(exist_ok=True)
    section = _export_generator(model, parts, config, staged)
    manifest = draft_manifest(data, config, name, section, parts)
    with write_bundle(out, manifest) as directory:
        write_catalog(data, directory)
        served = ("embeddings", "query-encoder", "transitions")
        for source in (*(parts[part] for part in served), staged):
            for file in source.iterdir():
                if file.name != "facts.json":  # what the manifest says
                    link_or_copy(file, directory / file.name)
    _require_parity(draft(out), model, config, out)


def _export_generator(
    model: T5ForConditionalGeneration, parts: Mapping[str, Path], config: BuildConfig, staged: Path
) -> GeneratorSection:
    generator = parts["generator"]
    exported = GeneratorExport(
        tokenizer=Tokenizer.from_file(str(generator / "tokenizer.json")),
        code_texts=read_code_texts(parts["codes"] / "codes.txt"),
        codes=np.load(generator / "code_tokens.npy"),
        prompts=(generator / "prompts.txt").read_text(encoding="utf-8"),
        max_input_tokens=config.generator.max_input_tokens,
        max_history=config.generator.max_history,
        beams=config.generator.beams,
    )
    return export_generator(model, exported, staged)


def _require_parity(
    bundle: Bundle, model: T5ForConditionalGeneration, config: BuildConfig, out: Path
) -> None:
    """Compares the draft's generator with transformers for real users."""
    engine = GeneratorEngine.load(bundle, threads=0)
    nothing = np.empty(0, dtype=np.int32)
    queries = [
        GenerateQuery(
            Context(question.user, question.history), config.generator.beams, None, nothing
        )
        for question in questions(bundle, "test")[: config.parity_users]
    ]
    with Progress() as progress:
        task = progress.add_task("Comparing with transformers", total=len(queries))
        parity = compare(engine, model, queries, advance=lambda n: progress.advance(task, n))
    parity.require()
    write_json(out / "parity.json", dataclasses.asdict(parity))


def choose_blend(export: Path, shortlist: int, out: Path) -> None:
    """The weights of the retrieval and of the final score."""
    bundle = draft(export)
    with Progress() as progress:
        blend = choose(bundle, GeneratorEngine.load(bundle, threads=0), shortlist, progress)
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
                    "transition_weight": weights["transition_weight"],
                    "transition_decay": weights["transition_decay"],
                }
            ),
            "blend": manifest.blend.model_copy(
                update={"generator_weight": weights["generator_weight"]}
            ),
        }
    )
    report = evaluate_bundle(Bundle.open(reissue(bundle, tuned, out), verify=False))
    print_report(report)
    parity = read_json(export / "parity.json")
    metrics = {**report.to_json(), "validation": weights, "parity": parity}
    write_json(out / "metrics.json", metrics)
