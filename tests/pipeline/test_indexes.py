"""The stage that indexes item vectors, by itself and as part of a build."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.catalog import Mask
from core.manifest import IndexKind, IndexSection
from offline.build.indexes import recall
from services.candidate.index.flat import FlatIndex, Neighbors, Vector
from tests.candidate.kinds import clustered
from tests.pipeline.conftest import Shop


class EveryOther(FlatIndex):
    """Misses every second of the best."""

    def search(self, query: Vector, count: int, allowed: Mask | None = None) -> Neighbors:
        found = super().search(query, 2 * count, allowed)
        return found.picked(np.arange(0, 2 * count, 2))


def test_recall_is_the_share_that_is_found() -> None:
    vectors = clustered(500, 8)
    assert recall(FlatIndex(vectors), vectors[::50]) == 1.0
    assert recall(EveryOther(vectors), vectors[::50], count=20) == 0.5


def test_a_small_catalog_is_compared_whole(shop: Shop) -> None:
    section = shop.bundle.manifest.candidate
    assert section.content_index.kind == section.behavior_index.kind == "flat"
    assert section.content_index.recall_at_100 is None
    assert "content.faiss" not in shop.bundle.manifest.files


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_a_build_can_be_told_the_kind(shop: Shop, kind: IndexKind) -> None:
    done = shop.build("--index", kind, "--until", "index")
    assert done.returncode == 0, done.stderr
    assert "query-encoder: already built" in done.stdout
    assert f"Indexing behavior ({kind})" in done.stdout
    out = Path("".join(done.stdout.split("index: ")[-1].split()))
    facts = json.loads((out / "facts.json").read_text(encoding="utf-8"))
    for name in ("content", "behavior"):
        section = IndexSection(**facts[name])
        assert section.kind == kind
        assert section.queries > 0
        assert section.recall_at_100 is not None
        assert section.recall_at_100 >= 0.95
        assert (out / f"{name}.faiss").is_file()
