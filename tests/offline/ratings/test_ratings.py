"""Ratings of a dataset, what predicts them without a model, and how errors are measured."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.dataset import DataError, Dataset, LogsConfig, read_logs
from offline.ratings.baselines import SHRINKAGE, UserItemBias
from offline.ratings.evaluate import RatingRow
from offline.ratings.rated import Ratings, rating_codes
from offline.reviews.parts import Part


def logs(directory: Path, ratings: list[float]) -> Dataset:
    """Every user has had every item, and rated it; latest first in the file."""
    pairs = [(user, item) for user in range(len(ratings) // 4) for item in range(4)]
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": 99 - item, "stars": rating}
        for (user, item), rating in zip(pairs, ratings, strict=True)
    ]
    pl.DataFrame(rows).write_csv(directory / "orders.csv")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(4)], "text": ["text"] * 4})
    items.write_csv(directory / "items.csv")
    config = LogsConfig(
        directory / "orders.csv", directory / "items.csv", rating_column="stars", min_core=1
    )
    return read_logs(config)[0]


GIVEN = [float(n % 5 + 1) for n in range(40)]


def test_ratings_stay_with_their_interactions(tmp_path: Path) -> None:
    data = logs(tmp_path, GIVEN)
    assert data.ratings is not None
    assert data.item_index.tolist() == [3, 2, 1, 0] * 10, "oldest first"
    assert data.ratings.tolist() == [x for n in range(0, 40, 4) for x in GIVEN[n : n + 4][::-1]]
    data.save(tmp_path / "saved")
    saved = Dataset.load(tmp_path / "saved").ratings
    assert saved is not None
    assert saved.tolist() == data.ratings.tolist()


def test_a_rating_is_the_place_of_its_value(tmp_path: Path) -> None:
    found = Ratings.of(logs(tmp_path, [0.5 * x for x in GIVEN]), seed=0)
    assert found.values == (0.5, 1.0, 1.5, 2.0, 2.5)
    data = logs(tmp_path, [0.5 * x for x in GIVEN])
    assert data.ratings is not None
    assert [found.values[place] for place in found.rated.values] == data.ratings.tolist()
    parts = [found.part(part) for part in Part]
    assert sum(len(part.users) for part in parts) == 40
    assert len(found.part(Part.TEST).users) > 0


def test_data_without_ratings_cannot_be_learned_from(tmp_path: Path) -> None:
    data = logs(tmp_path, GIVEN)
    plain = Dataset(data.name, data.items, data.user_ids, data.indptr, data.item_index,
                    data.timestamps)  # fmt: skip
    with pytest.raises(DataError, match="--rating-column"):
        Ratings.of(plain, seed=0)


def test_ratings_of_too_many_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"40 different values.*20 at most"):
        Ratings.of(logs(tmp_path, [n / 7 for n in range(40)]), seed=0)


def test_biases_by_hand() -> None:
    """One round: the item's mean difference, shrunk, and then the user's of what is left."""
    users, items = np.array([0, 0, 1]), np.array([0, 1, 0])
    found = UserItemBias.fit(users, items, np.array([5.0, 5.0, 2.0]), shape=(3, 2))
    assert found.mean == 4.0
    assert found.of_user[2] == 0.0
    for _ in range(3):  # it is a fixed point of both equations
        of_item = [
            (1.0 - found.of_user[0] - 2.0 - found.of_user[1]) / (SHRINKAGE + 2),
            (1.0 - found.of_user[0]) / (SHRINKAGE + 1),
        ]
    assert found.of_item.tolist() == pytest.approx(of_item, abs=1e-6)
    assert found.predict(np.array([0, 2]), np.array([1, 0])).tolist() == pytest.approx(
        [4.0 + found.of_user[0] + found.of_item[1], 4.0 + found.of_item[0]]
    )


def test_many_ratings_overcome_the_doubt() -> None:
    rng = np.random.default_rng(0)
    kind, good = rng.normal(0, 0.5, 30), rng.normal(0, 0.5, 40)
    users, items = (a.ravel() for a in np.meshgrid(np.arange(30), np.arange(40)))
    ratings = 3.0 + kind[users] + good[items]
    found = UserItemBias.fit(users, items, ratings, shape=(30, 40))
    off = found.predict(users, items) - ratings
    assert float(np.sqrt((off**2).mean())) < 0.2 * float(ratings.std())


@given(st.lists(st.tuples(st.floats(1, 5), st.floats(1, 5)), min_size=1, max_size=30))
def test_errors_are_those_of_their_definition(pairs: list[tuple[float, float]]) -> None:
    predicted, ratings = np.array(pairs).T
    row = RatingRow.of("some", predicted, ratings)
    off: NDArray[np.float64] = predicted - ratings
    assert row.rmse.value == pytest.approx(float(np.sqrt(np.mean(off**2))))
    assert row.mae.value == pytest.approx(float(np.mean(np.abs(off))))
    for error in (row.rmse, row.mae):
        assert error.low <= error.value + 1e-12
        assert error.value <= error.high + 1e-12


class _Tokenizer:
    """Knows ratings."""

    def token_to_id(self, text: str) -> int:
        return 90 + int(text.removeprefix("<rating_").removesuffix(">"))


def test_ratings_are_one_token_and_padding() -> None:
    found = rating_codes(3, _Tokenizer(), 2, 7)  # type: ignore[arg-type]
    assert found.tolist() == [[90, 7], [91, 7], [92, 7]]
