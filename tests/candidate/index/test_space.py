"""Spaces: from a bundle's files, of every kind of index, and as they grow."""

import sys
from pathlib import Path

import numpy as np
import pytest

from core.bundle import Bundle, write_bundle
from core.errors import BundleError, SettingsError
from core.manifest import CandidateSection, IndexKind, IndexSection
from services.candidate.index.approximate import ApproximateIndex
from services.candidate.index.milvus import MilvusIndex
from services.candidate.index.space import (
    FLAT_LIMIT,
    HNSW_LIMIT,
    Space,
    SpaceName,
    build_index,
    kind_for,
)
from tests import tiny_bundle
from tests.candidate.kinds import clustered

ITEMS = 400
VECTORS = clustered(ITEMS, 8)
KINDS: tuple[IndexKind, ...] = ("flat", "hnsw", "ivfpq")


def write(root: Path, kind: IndexKind, *, indexed: IndexKind | None = None) -> Bundle:
    """A bundle with nothing but a content space, said to be of one kind."""
    base = tiny_bundle.manifest().candidate.model_dump()
    section = CandidateSection.model_validate({**base, "content_index": IndexSection(kind=kind)})
    manifest = tiny_bundle.manifest(items=ITEMS, candidate=section)
    with write_bundle(root, manifest) as directory:
        Space.write(directory, SpaceName.CONTENT, VECTORS)
        index = build_index(indexed or kind, VECTORS)
        if isinstance(index, ApproximateIndex):
            index.write(directory / "content.faiss")
    return Bundle.open(root / manifest.name / manifest.version)


@pytest.mark.parametrize("kind", KINDS)
def test_reads_every_kind(tmp_path: Path, kind: IndexKind) -> None:
    space = Space.read(write(tmp_path, kind), SpaceName.CONTENT)
    assert (len(space), space.dimension) == (ITEMS, 8)
    assert space.index.search(VECTORS[7], 1).items.tolist() == [7]
    np.testing.assert_array_equal(space.take(np.array([3, 1, 3], np.int32)), VECTORS[[3, 1, 3]])


def test_vectors_stay_in_their_file(tmp_path: Path) -> None:
    base = Space.read(write(tmp_path, "flat"), SpaceName.CONTENT).vectors.base
    assert isinstance(base.base, np.memmap)
    assert not base.flags.writeable


def test_another_kind_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="which is not hnsw"):
        Space.read(write(tmp_path, "hnsw", indexed="ivfpq"), SpaceName.CONTENT)
    with pytest.raises(BundleError, match=r"has no content\.faiss"):
        Space.read(write(tmp_path, "hnsw", indexed="flat"), SpaceName.CONTENT)


@pytest.mark.parametrize("kind", KINDS)
def test_grows(tmp_path: Path, kind: IndexKind) -> None:
    first = Space.read(write(tmp_path, kind), SpaceName.CONTENT)
    more = clustered(30, 8, seed=5)
    second = first.extended(more[:20]).extended(more[20:])
    assert (len(first), len(second)) == (ITEMS, ITEMS + 30)
    assert second.index.search(more[25], 1).items.tolist() == [ITEMS + 25]
    taken = second.take(np.array([ITEMS + 25, 2, ITEMS], np.int32))
    np.testing.assert_array_equal(taken, [more[25], VECTORS[2], more[0]])
    assert second.vectors.base is first.vectors.base


def test_the_kind_follows_from_the_size() -> None:
    sizes = (0, FLAT_LIMIT, FLAT_LIMIT + 1, HNSW_LIMIT, HNSW_LIMIT + 1)
    assert [kind_for(size) for size in sizes] == ["flat", "flat", "hnsw", "hnsw", "ivfpq"]


def test_milvus_takes_the_place_of_the_bundles_index(tmp_path: Path) -> None:
    bundle = write(tmp_path, "hnsw")
    space = Space.read(bundle, SpaceName.CONTENT, str(tmp_path / "milvus.db"))
    assert isinstance(space.index.base, MilvusIndex)
    assert space.extended(VECTORS[:1] * -1).index.search(-VECTORS[0], 1).items.tolist() == [ITEMS]


def test_without_the_extra_the_setting_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write(tmp_path, "flat")
    monkeypatch.delitem(sys.modules, "services.candidate.index.milvus")
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(SettingsError, match=r"pip install '\.\[candidate,milvus\]'"):
        Space.read(bundle, SpaceName.CONTENT, "milvus://nowhere:1")
