"""MovieLens-100K and -1M, from either of the layouts that `fetch` leaves.

The layouts are GroupLens' own (`u.data`, `u.item`; `ratings.dat`, `movies.dat`) and RecBole's
atomic files (`ml-100k.inter`, `ml-100k.item`), which hold the same rows in the same order. Both
give the same `Dataset`: ties in time are resolved by the order of the file. One thing differs: in
RecBole's ML-1M an item's id is its title, such as `"Matrix, The (1999)"`, instead of a number.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Literal

import polars as pl

from offline.dataset.errors import DataError
from offline.dataset.prepare import prepare, without_users
from offline.dataset.schema import Dataset, Item

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["MovieLens", "load_movielens", "readable_title"]

MovieLens = Literal["ml-100k", "ml-1m"]

# u.item's flags, in the order of u.genre, which starts with "unknown".
ML_100K_GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller",
    "War", "Western",
)  # fmt: skip
UNKNOWN = ("unknown", "unkonwn")  # RecBole's spelling of the one nameless movie, id 267

ARTICLES = "The|An|A|L'|Les|Le|La|Los|Las|Lo|El|Il|I|Gli|Das|Der|Die|Den|Det|De|Une|Un|O|As|Os"
USER_PREFIX = "1m_"  # put before the user ids of RecBole's ML-1M, which GroupLens' have not
INVERTED = re.compile(rf"(?P<rest>[^()]+?), (?P<article>{ARTICLES})(?= *(?:[()]|$))")
YEAR = re.compile(r"\((?P<year>\d{4})\)$")


def load_movielens(
    name: MovieLens,
    directory: Path,
    min_core: int = 5,
    extra: Mapping[str, Item] | None = None,
    left_out: Container[str] = (),
) -> Dataset:
    """Read MovieLens as a dataset with the attributes `genre` (text) and `year` (a number).

    Args:
        name: Which one.
        directory: Where `fetch` put it: the files lie in `directory / name`.
        min_core: The `k` of the iterative k-core; the literature's protocol is 5, which leaves
            943 users, 1,349 items and 99,287 interactions of ML-100K.
        extra: Items by id beside MovieLens' own, and in their place where both have one.
        left_out: Ids of users whose interactions do not count.

    Raises:
        DataError: The files are not there or have another shape.
    """
    folder = directory / name
    if (folder / "u.data").exists():
        interactions, items = _interactions(folder / "u.data", "\t"), _u_item(folder / "u.item")
    elif (folder / "ratings.dat").exists():
        interactions = _interactions(folder / "ratings.dat", "::")
        items = _movies_dat(folder / "movies.dat")
    elif (folder / f"{name}.inter").exists():
        interactions = _atomic_interactions(folder / f"{name}.inter")
        items = _atomic_items(folder / f"{name}.item")
    else:
        raise DataError(f"{folder} holds no MovieLens data: run `tandem data fetch {name}` first")
    catalog = {item.item_id: item for item in items} | dict(extra or {})
    return prepare(name, without_users(interactions, left_out), catalog, min_core)


def readable_title(title: str) -> str:
    """Write a title the way people do: the article first, a year last.

    >>> readable_title("Horseman on the Roof, The (Hussard sur le toit, Le) (1995)")
    'The Horseman on the Roof (Le Hussard sur le toit) (1995)'
    """

    def article_first(match: re.Match[str]) -> str:
        article, rest = match["article"], match["rest"]
        return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"

    return INVERTED.sub(article_first, title.strip())


def _atomic_interactions(path: Path) -> pl.DataFrame:
    rows = _interactions(path, "\t", "utf-8", header=1)
    return rows.with_columns(pl.col("user").str.strip_prefix(USER_PREFIX))


def _interactions(
    path: Path, separator: str, encoding: str = "latin-1", header: int = 0
) -> pl.DataFrame:
    """Read `user, item, rating, timestamp` rows; the files have a million of them at most."""
    with path.open(encoding=encoding) as file:
        rows = [line.rstrip("\n").split(separator) for line in file][header:]
    try:
        columns = list(zip(*rows, strict=True))
        users, items, given, timestamps = columns
        ratings = [float(value) for value in given]
        seconds = [int(float(value)) for value in timestamps]
    except ValueError as error:
        raise DataError.at(f"not MovieLens' ratings ({error}): fetch it anew", file=path) from error
    schema = {"user": pl.String, "item": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
    return pl.DataFrame([users, items, ratings, seconds], schema=schema)


def _u_item(path: Path) -> Iterator[Item]:
    for row in _rows(path, "|", "latin-1"):
        item_id, title, flags = row[0], row[1], row[6:]  # row[5] is the flag "unknown"
        genres = [genre for genre, flag in zip(ML_100K_GENRES, flags, strict=True) if flag == "1"]
        yield _item(item_id, title, genres)


def _movies_dat(path: Path) -> Iterator[Item]:
    with path.open(encoding="latin-1") as file:
        for line in file:
            item_id, title, genres = line.rstrip("\n").split("::")
            yield _item(item_id, title, [genre for genre in genres.split("|") if genre])


def _atomic_items(path: Path) -> Iterator[Item]:
    """RecBole's item file: the year stands in a column of its own."""
    for item_id, title, year, genres in list(_rows(path, "\t", "utf-8"))[1:]:
        known = [genre for genre in genres.split() if genre not in UNKNOWN]
        full_title = f"{title} ({year})" if year.isdigit() else title
        yield _item(item_id, full_title, known)


def _rows(path: Path, separator: str, encoding: str) -> Iterator[list[str]]:
    with path.open(encoding=encoding, newline="") as file:
        yield from csv.reader(file, delimiter=separator, quoting=csv.QUOTE_NONE)


def _item(item_id: str, raw_title: str, genres: Sequence[str]) -> Item:
    spaced = " ".join(raw_title.split()).removesuffix(" (V)")  # (V) marks a video release
    year = YEAR.search(spaced)
    title = "unknown" if spaced in UNKNOWN else readable_title(spaced)
    text = f"{title}. Genres: {', '.join(genres)}." if genres else f"{title}."
    years = (float(year["year"]),) if year else ()
    return Item(item_id, title, text, {"genre": tuple(genres), "year": years})
