import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.codes import (
    CodeKind,
    Codes,
    CodesConfig,
    assign,
    code_text,
)
from offline.codes.behavior import SLACK as BEHAVIOR_SLACK
from offline.codes.clustering import bounded_assignment, kmeans, squared_distances
from offline.codes.code import branching
from offline.dataset import Dataset, Item

KINDS: tuple[CodeKind, ...] = get_args(CodeKind)


def dataset(sequences: list[list[int]], items: int) -> Dataset:
    return Dataset(
        name="made-up",
        items=tuple(Item(str(i), f"Title {i}", f"Text {i}", {}) for i in range(items)),
        user_ids=tuple(str(u) for u in range(len(sequences))),
        indptr=np.cumsum([0, *map(len, sequences)]).astype(np.int64),
        item_index=np.array([i for s in sequences for i in s], dtype=np.int32),
        timestamps=np.zeros(sum(map(len, sequences)), dtype=np.int64),
    )


def embeddings(items: int, dimensions: int = 8) -> NDArray[np.float32]:
    vectors = np.random.default_rng(items).normal(size=(items, dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def communities(groups: int, size: int, users: int, seed: int = 0) -> Dataset:
    """Users who each stay inside one group of items; the groups never meet."""
    generator = np.random.default_rng(seed)
    sequences = []
    for user in range(users):
        inside = np.arange(size) * groups + user % groups  # so that indices say nothing
        sequences.append(generator.permutation(inside).tolist())
    return dataset(sequences, groups * size)


made_up = st.integers(1, 40).flatmap(
    lambda items: st.lists(
        st.lists(st.integers(0, items - 1), min_size=1, max_size=9), min_size=1, max_size=8
    ).map(lambda sequences: dataset(sequences, items))
)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(made_up, st.integers(1, 4))
def test_codes_are_unique_and_bounded(kind: CodeKind, data: Dataset, levels: int) -> None:
    items = len(data.items)
    codes = assign(kind, data, embeddings(items), CodesConfig(levels=levels))
    assert codes.kind == kind
    assert codes.levels.shape == (items, levels)
    assert codes.levels.dtype == np.int32
    assert len({tuple(row) for row in codes.levels.tolist()}) == items
    assert (codes.levels >= 0).all()
    assert (codes.levels < np.array(codes.level_sizes)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalog_that_fills_every_code(kind: CodeKind) -> None:
    data = communities(groups=3, size=9, users=12)
    codes = assign(kind, data, embeddings(27), CodesConfig(branching=3))
    assert sorted(map(tuple, codes.levels.tolist())) == [
        (a, b, c) for a in range(3) for b in range(3) for c in range(3)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_no_code_depends_on_validation_or_test_items(kind: CodeKind) -> None:
    data = communities(groups=4, size=10, users=40)
    targets = np.concatenate([data.indptr[1:] - 1, data.indptr[1:] - 2])
    for seed in range(3):
        items = data.item_index.copy()
        items[targets] = np.random.default_rng(seed).integers(len(data.items), size=len(targets))
        changed = replace(data, item_index=items)
        before, after = (assign(kind, d, embeddings(40)).levels for d in (data, changed))
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", ["sequential", "collaborative"])
def test_training_items_do_matter(kind: CodeKind) -> None:
    data = communities(groups=4, size=10, users=40)
    first = replace(data, item_index=np.random.default_rng(5).permutation(data.item_index))
    assert (assign(kind, data).levels != assign(kind, first).levels).any()


SCRIPT = """
import hashlib, numpy as np
from offline.codes import assign
from offline.dataset import Dataset, Item
rng = np.random.default_rng(3)
lengths = rng.integers(5, 30, size=60)
data = Dataset("x", tuple(Item(str(i), "", "", {}) for i in range(150)),
               tuple(map(str, range(60))), np.cumsum([0, *lengths]),
               rng.integers(150, size=lengths.sum()).astype(np.int32),
               np.zeros(lengths.sum(), dtype=np.int64))
vectors = rng.normal(size=(150, 16)).astype(np.float32)
for kind in ("random", "sequential", "collaborative", "semantic", "behavior"):
    print(kind, hashlib.sha256(assign(kind, data, vectors).levels.tobytes()).hexdigest())
"""


def test_codes_depend_neither_on_the_hash_seed_nor_on_threads() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("0", "1"), ("1", "2"))
    }
    assert len(printed) == 1


# -- each kind -------------------------------------------------------------------------------------


def test_random_codes_follow_their_seed() -> None:
    data = dataset([[0, 1, 2]], 50)
    one, same, other = (assign("random", data, config=CodesConfig(seed=s)) for s in (0, 0, 1))
    assert (one.levels == same.levels).all()
    assert (one.levels != other.levels).any()


def test_sequential_codes_number_training_items_by_first_appearance() -> None:
    # The last two of each user are targets; user 2 is too short to be evaluated.
    data = dataset([[4, 2, 0, 1], [3, 4, 5, 0, 1], [2, 6]], items=8)
    codes = assign("sequential", data, config=CodesConfig(levels=2, branching=3))
    order = [4, 2, 3, 5, 6, 0, 1, 7]  # training first, then the others by index
    assert [codes.levels[item].tolist() for item in order] == [
        [0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1],
    ]  # fmt: skip


def test_collaborative_codes_find_communities_that_never_meet() -> None:
    data = communities(groups=4, size=10, users=60)
    codes = assign("collaborative", data, config=CodesConfig(branching=4))
    for part in range(4):
        assert len(np.unique(np.flatnonzero(codes.levels[:, 0] == part) % 4)) == 1


def test_collaborative_codes_spread_items_that_nobody_met() -> None:
    data = dataset([[0, 1, 2, 0, 1], [2, 1, 0, 2, 1]], items=60)
    codes = assign("collaborative", data)
    sizes = np.bincount(codes.levels[:, 0], minlength=codes.level_sizes[0])
    assert sizes.max() - sizes.min() <= 1


def test_collaborative_codes_number_by_popularity() -> None:
    data = dataset([[0, 1], [1, 2], [1, 0], [1, 3]], items=4)
    codes = assign("collaborative", data, config=CodesConfig(levels=1))
    assert codes.levels[:, 0].tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize("kind", ["semantic", "behavior"])
def test_items_share_prefixes_where_their_vectors_are_near(kind: CodeKind) -> None:
    generator = np.random.default_rng(0)
    centers = np.eye(4)[np.arange(40) % 4]
    vectors = centers + 0.01 * generator.normal(size=(40, 4))
    codes = assign(kind, dataset([[0]], 40), vectors, CodesConfig(branching=4))
    for group in range(4):
        assert len(np.unique(codes.levels[np.arange(40) % 4 == group, 0])) == 1


def test_semantic_codes_tell_equal_texts_apart() -> None:
    codes = assign("semantic", dataset([[0]], 20), np.ones((20, 3)))
    assert len(np.unique(codes.levels, axis=0)) == 20


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 300), st.integers(2, 3), st.integers(0, 9))
def test_behavior_codes_are_balanced_on_every_level(items: int, levels: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(items, 4)) ** 3  # k-means would be uneven
    config = CodesConfig(levels=levels, seed=seed)
    codes = assign("behavior", dataset([[0]], items), vectors, config)
    base = codes.level_sizes[0]
    prefixes = [list(map(tuple, codes.levels[:, :length])) for length in range(levels + 1)]
    for shorter, longer in pairwise(prefixes):
        size = Counter(shorter)
        for prefix, inside in Counter(longer).items():
            assert inside <= math.ceil(1.05 * size[prefix[:-1]] / base)


@pytest.mark.parametrize(("items", "base"), [(12_101, 128), (1349, 43), (3416, 68)])
def test_two_levels_of_behavior_codes_are_little_more_than_square(items: int, base: int) -> None:
    assert branching(items, CodesConfig(levels=2), BEHAVIOR_SLACK) == base
    assert 1.1 <= base / math.sqrt(items) <= 1.3
    assert math.ceil(1.05 * items / base) <= base  # the last level can hold the largest group


# -- parts -----------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_bounded_assignment_keeps_its_bound(
    n: int, clusters: int, capacity: int, seed: int
) -> None:
    distances = np.random.default_rng(seed).integers(4, size=(n, clusters)).astype(np.float64)
    if n > clusters * capacity:
        with pytest.raises(ValueError, match="cannot hold"):
            bounded_assignment(distances, capacity)
        return
    labels = bounded_assignment(distances, capacity)
    sizes = np.bincount(labels, minlength=clusters)
    assert sizes.max(initial=0) <= capacity
    # Whoever is not in a nearest cluster found all nearer ones full.
    for point, label in enumerate(labels):
        assert (sizes[distances[point] < distances[point, label]] == capacity).all()


def test_bounded_assignment_by_hand() -> None:
    distances = np.array([[0.0, 5.0], [1.0, 2.0], [2.0, 9.0], [3.0, 3.0]])
    assert bounded_assignment(distances, 4).tolist() == [0, 0, 0, 0]
    assert bounded_assignment(distances, 2).tolist() == [0, 0, 1, 1]


def test_kmeans_with_fewer_points_than_clusters() -> None:
    points = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert kmeans(points, 3, seed=0).tolist() == [[1, 2], [3, 4], [1, 2]]


def test_squared_distances_by_hand() -> None:
    points, entries = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(squared_distances(points, entries), [[0, 9], [25, 16]])


@pytest.mark.parametrize(
    ("items", "levels", "expected"), [(1, 3, 2), (8, 3, 3), (1349, 3, 12), (6, 1, 8), (27, 2, 6)]
)
def test_the_default_branching_leaves_codes_free(items: int, levels: int, expected: int) -> None:
    assert branching(items, CodesConfig(levels=levels)) == expected
    assert expected**levels >= 1.25 * items


def test_what_cannot_be_coded_is_refused() -> None:
    data = dataset([[0]], 10)
    with pytest.raises(ValueError, match="name 8 items, not 10"):
        assign("random", data, config=CodesConfig(branching=2))
    with pytest.raises(ValueError, match="semantic codes need one vector"):
        assign("semantic", data)
    with pytest.raises(ValueError, match="behavior codes need one vector"):
        assign("behavior", data, embeddings(9))
    for kind in ("semantic", "behavior"):
        with pytest.raises(ValueError, match="not finite"):
            assign(kind, data, np.full((10, 2), np.nan))
    with pytest.raises(ValueError, match="no indexing 'semantical'"):
        assign("semantical", data)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="levels"):
        CodesConfig(levels=0)


def test_codes_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="same code"):
        Codes("random", np.zeros((2, 1), np.int32), (2,))
    with pytest.raises(ValueError, match="outside"):
        Codes("random", np.array([[2]], np.int32), (2,))
    with pytest.raises(ValueError, match="shape"):
        Codes("random", np.zeros((1, 2), np.int32), (2,))


def test_code_text() -> None:
    assert code_text([12, 3, 0]) == "<a_12><b_3><c_0>"
    codes = Codes("random", np.array([[1, 0], [0, 1]], np.int32), (2, 2))
    assert codes.texts() == ["<a_1><b_0>", "<a_0><b_1>"]
