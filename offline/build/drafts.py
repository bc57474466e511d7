"""Bundles that are not finished: drafts, and the same files under another manifest."""

import datetime as dt
import importlib.metadata
import json
import platform
import shutil
import subprocess
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
from offline.build.config import BuildConfig
from offline.dataset import Dataset

DRAFT: Final = "draft"
"""The version of an unfinished bundle."""

_LIBRARIES: Final = ("torch", "transformers", "onnxruntime-gpu", "onnxruntime", "faiss-cpu")


def draft_manifest(
    data: Dataset,
    config: BuildConfig,
    name: str,
    generator: GeneratorSection,
    parts: Mapping[str, Path],
) -> Manifest:
    """The manifest of a bundle whose weights are not chosen yet."""
    facts: dict[str, Any] = {}
    for part in ("embeddings", "query-encoder", "index", "transitions"):
        facts[part] = json.loads((parts[part] / "facts.json").read_text(encoding="utf-8"))
    return Manifest(
        name=name,
        version=DRAFT,
        items=len(data.items),
        users=len(data.user_ids),
        candidate=CandidateSection(
            max_history=facts["query-encoder"]["max_history"],
            transition_window=facts["transitions"]["window"],
            transition_decay=facts["transitions"]["decay"],
            behavior_weight=1.0,
            transition_weight=1.0,
            text_prefix=facts["embeddings"]["text_prefix"],
            text_precision=facts["embeddings"]["text_precision"],
            max_text_tokens=facts["embeddings"]["max_text_tokens"],
            content_index=IndexSection(**facts["index"]["content"]),
            behavior_index=IndexSection(**facts["index"]["behavior"]),
        ),
        generator=generator,
        blend=BlendSection(retrieval_weight=1.0, generator_weight=1.0, shortlist=config.shortlist),
        provenance=Provenance(
            dataset=data.name,
            seed=config.seed,
            config=config.model_dump(mode="json"),
            git_revision=git_revision(),
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            libraries=_libraries(),
        ),
    )


def draft(directory: Path) -> Bundle:
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
    popularity = np.bincount(np.concatenate(data.train()), minlength=len(data.items))
    Catalog(
        [
            CatalogItem(item.item_id, item.title, item.text, item.attributes, int(count))
            for item, count in zip(data.items, popularity, strict=True)
        ]
    ).write(directory / "catalog.jsonl")
    (directory / "users.json").write_text(json.dumps(data.user_ids), encoding="utf-8")
    np.save(directory / "histories_indptr.npy", data.indptr, allow_pickle=False)
    np.save(directory / "histories_items.npy", data.item_index, allow_pickle=False)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody changes, or a copy on another file system."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def git_revision() -> str:
    """The revision of the code, or `unknown` outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def _libraries() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
