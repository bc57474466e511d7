"""Bundles that are not finished: drafts, and the same files under another manifest."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.bundle import MANIFEST, Bundle, write_bundle
from core.catalog import Catalog, CatalogItem
from core.manifest import (
    BlendSection,
    CandidateSection,
    GeneratorSection,
    IndexSection,
    Manifest,
    Provenance,
)
from offline.build.files import FACTS, read_json
from offline.dataset.schema import Dataset
from offline.dataset.timestamps import microseconds

DRAFT: Final = "draft"
"""The version of an unfinished bundle."""
SERVED: Final = ("embeddings", "query-encoder", "index", "transitions")
"""The stages whose files the candidate service reads."""


def draft_manifest(
    data: Dataset,
    name: str,
    generator: GeneratorSection,
    shortlist: int,
    stages: Mapping[str, Path],
) -> Manifest:
    """The manifest of a bundle whose weights are not chosen yet, and that is not published.

    Args:
        data: what it is built from.
        name: of the bundle.
        generator: what the generator service is told.
        shortlist: items that are shortlisted for reranking.
        stages: the directories of `embeddings`, `query-encoder`, `index` and `transitions`.
    """
    return Manifest(
        name=name,
        version=DRAFT,
        items=len(data.items),
        users=len(data.user_ids),
        candidate=_candidate({stage: read_json(stages[stage] / FACTS) for stage in SERVED}),
        generator=generator,
        blend=BlendSection(retrieval_weight=1.0, generator_weight=1.0, shortlist=shortlist),
        provenance=Provenance(
            dataset=data.name, seed=0, config={}, git_revision="", created="", libraries={}
        ),
    )


def _candidate(facts: Mapping[str, Mapping[str, Any]]) -> CandidateSection:
    embeddings, transitions, index = facts["embeddings"], facts["transitions"], facts["index"]
    return CandidateSection(
        max_history=facts["query-encoder"]["max_history"],
        transition_window=transitions["window"],
        transition_decay=transitions["decay"],
        behavior_weight=1.0,
        transition_weight=1.0,
        text_prefix=embeddings["text_prefix"],
        query_prefix=_unlike(embeddings["query_prefix"], embeddings["text_prefix"]),
        text_precision=embeddings["text_precision"],
        max_text_tokens=embeddings["max_text_tokens"],
        content_index=IndexSection(**index["content"]),
        behavior_index=IndexSection(**index["behavior"]),
    )


def _unlike(prefix: str, other: str) -> str | None:
    return None if prefix == other else prefix


def open_draft(directory: Path) -> Bundle:
    """Opens the draft that a stage left in its directory; its checksums were just made."""
    (manifest,) = directory.glob(f"*/{DRAFT}/{MANIFEST}")
    return Bundle.open(manifest.parent, verify=False)


def reissue(bundle: Bundle, manifest: Manifest, root: Path) -> Path:
    """Writes the files of a bundle anew under another manifest, and returns the directory."""
    with write_bundle(root, manifest) as directory:
        for name in bundle.manifest.files:
            link_or_copy(bundle.path / name, directory / name)
    return root / manifest.name / manifest.version


def write_catalog(data: Dataset, directory: Path) -> None:
    """The catalog with its training popularity, and the histories of all users."""
    Catalog(
        [
            CatalogItem(item.item_id, item.title, item.text, item.attributes, int(count))
            for item, count in zip(data.items, data.popularity(), strict=True)
        ]
    ).write(directory / "catalog.jsonl")
    (directory / "users.json").write_text(json.dumps(data.user_ids), encoding="utf-8")
    np.save(directory / "histories_indptr.npy", data.indptr, allow_pickle=False)
    np.save(directory / "histories_items.npy", data.item_index, allow_pickle=False)
    times = microseconds(data.timestamps)
    if times is not None:
        np.save(directory / "histories_times.npy", times, allow_pickle=False)
    if data.ratings is not None:
        np.save(directory / "histories_ratings.npy", data.ratings, allow_pickle=False)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody changes, or a copy on another file system."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
