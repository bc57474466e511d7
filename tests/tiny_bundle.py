"""A whole bundle of a dozen made-up items, for tests that need one but no model."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from core.bundle import write_bundle
from core.catalog import Catalog, CatalogItem
from core.manifest import (
    BlendSection,
    CandidateSection,
    GeneratorSection,
    Manifest,
    Provenance,
)

GENRES = ("Comedy", "Drama", "War")
ITEMS = 12
HISTORIES = {"ann": [0, 1, 2], "bob": [5], "cid": []}


def item_id(position: int) -> str:
    return f"i{position}"


def catalog() -> Catalog:
    """Item i has the genre i mod 3, and also the next one when i is even; the year 1990 + i."""
    return Catalog(
        [
            CatalogItem(
                item_id=item_id(i),
                title=f"Film {i} ({1990 + i})",
                text=f"Film {i}, a {GENRES[i % 3]}",
                attributes={
                    "genre": (GENRES[i % 3], GENRES[(i + 1) % 3])
                    if i % 2 == 0
                    else (GENRES[i % 3],),
                    "year": (1990.0 + i,),
                },
                popularity=ITEMS - i,
            )
            for i in range(ITEMS)
        ]
    )


def manifest(version: str = "1", **sections: object) -> Manifest:
    values: dict[str, object] = {
        "name": "tiny",
        "version": version,
        "items": ITEMS,
        "users": len(HISTORIES),
        "candidate": CandidateSection(
            max_history=10,
            transition_window=5,
            transition_decay=0.9,
            behavior_weight=1.0,
            transition_weight=1.0,
        ),
        "generator": GeneratorSection(
            code_length=2,
            max_input_tokens=16,
            max_history=10,
            beams=4,
            pad_token=0,
            eos_token=1,
            vocabulary=32,
        ),
        "blend": BlendSection(retrieval_weight=1.0, generator_weight=0.5, shortlist=6),
        "provenance": Provenance(
            dataset="made-up",
            seed=0,
            config={},
            git_revision="none",
            created="2026-01-01T00:00:00Z",
            libraries={},
        ),
    }
    return Manifest.model_validate({**values, **sections})


def write_files(directory: Path, histories: Mapping[str, list[int]] = HISTORIES) -> None:
    catalog().write(directory / "catalog.jsonl")
    (directory / "users.json").write_text(json.dumps(list(histories)), encoding="utf-8")
    lengths = [len(items) for items in histories.values()]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(directory / "histories_indptr.npy", indptr)
    np.save(directory / "histories_items.npy", np.array([*chain(*histories.values())], np.int32))


def write_tiny_bundle(
    root: Path, version: str = "1", times: Sequence[int] | None = None, **sections: object
) -> Path:
    """Writes `root/tiny/<version>`, and returns the link `root/tiny/current`.

    `times` says when the interactions were, in microseconds since 1970; None leaves that out.
    """
    with write_bundle(root, manifest(version, **sections)) as directory:
        write_files(directory)
        if times is not None:
            np.save(directory / "histories_times.npy", np.array(times, np.int64))
    return root / "tiny" / "current"
