from pathlib import Path

import pytest

from offline.dataset import DataError, load_movielens
from offline.dataset.movielens import readable_title

# The same two users and three movies in each of the three layouts.
RATINGS = [("2", "10", 3, 5), ("1", "9", 4, 7), ("1", "10", 1, 7), ("2", "267", 5, 1)]


def write(path: Path, lines: list[str], encoding: str = "latin-1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def grouplens_100k(folder: Path) -> None:
    write(folder / "u.data", ["\t".join(map(str, row)) for row in RATINGS])
    action_scifi = [0, 1] + [0] * 13 + [1] + [0] * 3
    nothing = [1] + [0] * 18

    def movie(item_id: str, title: str, flags: list[int]) -> str:
        return "|".join([item_id, title, "01-Jan-1999", "", "http://x", *map(str, flags)])

    write(
        folder / "u.item",
        [
            movie("9", "Matrix, The (1999)", action_scifi),
            movie("10", "Misérables, Les (1995) (V)", [0] * 8 + [1] + [0] * 10),
            movie("267", "unknown", nothing),
        ],
    )


def grouplens_1m(folder: Path) -> None:
    write(folder / "ratings.dat", ["::".join(map(str, row)) for row in RATINGS])
    movies = ["9::Matrix, The (1999)::Action|Sci-Fi", "10::Misérables, Les (1995)::Drama"]
    write(folder / "movies.dat", [*movies, "267::unknown::"])


def recbole(folder: Path) -> None:
    rows = [f"{user}\t{item}\t{rating}\t{time}" for user, item, rating, time in RATINGS]
    write(folder / f"{folder.name}.inter", ["user_id:token\titem_id:token\tr:float\tt:f", *rows])
    write(
        folder / f"{folder.name}.item",
        [
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
            "9\tMatrix, The\t1999\tAction Sci-Fi",
            "10\tMisérables, Les (1995)\tV\tDrama",
            "267\tunkonwn\tunkonwn\tunknown",
        ],
        "utf-8",
    )


@pytest.mark.parametrize("layout", [grouplens_100k, grouplens_1m, recbole])
def test_every_layout_gives_the_same_dataset(layout: object, tmp_path: Path) -> None:
    assert callable(layout)
    layout(tmp_path / "ml-100k")
    made = load_movielens("ml-100k", tmp_path, min_core=1)
    assert made.user_ids == ("1", "2")
    assert [made.history(user).tolist() for user in (0, 1)] == [[0, 1], [2, 1]]
    matrix, miserables, unknown = made.items
    assert (matrix.item_id, matrix.title) == ("9", "The Matrix (1999)")
    assert matrix.text == "The Matrix (1999). Genres: Action, Sci-Fi."
    assert matrix.attributes == {"genre": ("Action", "Sci-Fi"), "year": (1999.0,)}
    assert miserables.title == "Les Misérables (1995)"
    assert miserables.attributes == {"genre": ("Drama",), "year": (1995.0,)}
    assert (unknown.title, unknown.text) == ("unknown", "unknown.")
    assert unknown.attributes == {"genre": (), "year": ()}


def test_items_may_be_named_by_their_titles(tmp_path: Path) -> None:
    folder = tmp_path / "ml-1m"
    rows = ["1m_10\tMisérables, Les (1995)\t5\t7", "1m_9\tMatrix, The (1999)\t3\t5"]
    write(folder / "ml-1m.inter", ["user_id:token\titem_id:token\tr:float\tt:f", *rows], "utf-8")
    movies = [
        "Matrix, The (1999)\tMatrix, The\t1999\tAction Sci-Fi",
        "Misérables, Les (1995)\tMisérables, Les\t1995\tDrama",
    ]
    header = "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token"
    write(folder / "ml-1m.item", [header, *movies], "utf-8")
    made = load_movielens("ml-1m", tmp_path, min_core=1)
    assert made.user_ids == ("9", "10")
    assert made.item_ids == ("Matrix, The (1999)", "Misérables, Les (1995)")
    assert [item.title for item in made.items] == ["The Matrix (1999)", "Les Misérables (1995)"]
    assert made.items[0].attributes == {"genre": ("Action", "Sci-Fi"), "year": (1999.0,)}
    assert [made.history(user).tolist() for user in (0, 1)] == [[0], [1]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Toy Story (1995)", "Toy Story (1995)"),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly (1966)"),
        ("Blue Angel, The (Blaue Engel, Der) (1930)", "The Blue Angel (Der Blaue Engel) (1930)"),
        ("Star Maker, The (Uomo delle stelle, L') (1995)",
         "The Star Maker (L'Uomo delle stelle) (1995)"),
        ("Cry, the Beloved Country (1995)", "Cry, the Beloved Country (1995)"),
        ("Paris, Texas (1984)", "Paris, Texas (1984)"),
        ("American in Paris, An", "An American in Paris"),
    ],
)  # fmt: skip
def test_titles_read_as_people_write_them(given: str, expected: str) -> None:
    assert readable_title(given) == expected


def test_missing_data_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tandem data fetch ml-1m"):
        load_movielens("ml-1m", tmp_path)


@pytest.mark.parametrize("line", ["1\t2\t3", "1\t2\t3\tnoon", ""])
def test_damaged_ratings_are_refused(line: str, tmp_path: Path) -> None:
    grouplens_100k(tmp_path / "ml-100k")
    write(tmp_path / "ml-100k" / "u.data", ["1\t9\t3\t5", line])
    with pytest.raises(DataError, match=r"u\.data.*fetch it anew"):
        load_movielens("ml-100k", tmp_path, min_core=1)
