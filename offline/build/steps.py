"""What each stage does: read the directories of earlier stages, write one of its own.

The stages of the generator are in `offline.build.generator`.
"""

from pathlib import Path

import numpy as np
from rich.progress import Progress

from core.bundle import Bundle
from core.codes import write_code_texts
from core.manifest import BlendSection
from offline.baselines import WINDOW, transition_table
from offline.blend import choose
from offline.build.config import CodesSection, EmbedderSection
from offline.build.drafts import draft, reissue
from offline.build.publish import read_json, write_json
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
from offline.evaluate.report import evaluate_bundle, print_report
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.export import export_query_encoder
from offline.query_encoder.train import train_query_encoder
from services.candidate.index.space import Space, SpaceName
from services.generator.decoding.engine import GeneratorEngine


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
    dataset: Path, embeddings: Path, section: QueryEncoderConfig, seed: int, out: Path
) -> None:
    """The query encoder and the behavior space."""
    with Progress() as progress:
        trained = train_query_encoder(
            Dataset.load(dataset),
            np.load(embeddings / "content_vectors.npy"),
            section.model_copy(update={"train": section.train.model_copy(update={"seed": seed})}),
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


def choose_blend(export: Path, shortlist: int, out: Path) -> None:
    """The weights of the retrieval and of the final score, and the default strategy."""
    bundle = draft(export)
    with Progress() as progress:
        blend = choose(bundle, GeneratorEngine.load(bundle), shortlist, progress)
        for sentence in blend.sentences:
            progress.console.print(sentence, highlight=False, soft_wrap=True)
    write_json(out / "blend.json", blend.to_json())


def evaluate(export: Path, blend: Path, out: Path) -> None:
    """The bundle with its weights, and what it reaches on the test items."""
    chosen = read_json(blend / "blend.json")
    bundle = draft(export)
    manifest = bundle.manifest
    tuned = manifest.model_copy(
        update={
            "candidate": manifest.candidate.model_copy(update=chosen["candidate"]),
            "blend": BlendSection.model_validate(chosen["blend"]),
        }
    )
    report = evaluate_bundle(Bundle.open(reissue(bundle, tuned, out), verify=False))
    print_report(report)
    agreement = read_json(export / "agreement.json")
    metrics = {**report.to_json(), "validation": chosen["validation"], **agreement}
    write_json(out / "metrics.json", metrics)
