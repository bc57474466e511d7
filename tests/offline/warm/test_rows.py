"""What belongs to an item, a user or a word is found again by its id; by hand."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from offline.warm.rows import Kept, item_vectors, set_means
from offline.warm.vocabulary import Vocabulary, token_rows


def vocabulary(tokens: list[str], codes: list[list[str]], items: str, users: str) -> Vocabulary:
    """Items and users are letters."""
    ids = {token: place for place, token in enumerate(tokens)}
    numbers = np.array([[ids[token] for token in code] for code in codes], np.int32)
    tokenizer = Tokenizer(models.WordLevel(ids, "<unk>"))
    own = sum(token.startswith("<user_") for token in tokens)
    return Vocabulary(tokenizer, numbers, list(items), list(users), own)


BEFORE = vocabulary(
    ["<unk>", "after", "for", "<user_0>", "<user_1>", "<a_0>", "<a_1>", "<b_0>", "<b_1>"],
    [["<a_0>", "<b_0>"], ["<a_0>", "<b_1>"], ["<a_1>", "<b_0>"]],
    items="xyz",
    users="qs",
)
NOW = vocabulary(
    [
        *("<unk>", "what", "after"),
        *("<user_0>", "<user_1>", "<user_2>"),
        *("<a_0>", "<a_1>", "<a_2>", "<b_0>", "<b_1>"),
    ],
    [["<a_1>", "<b_0>"], ["<a_1>", "<b_1>"], ["<a_0>", "<b_0>"], ["<a_2>", "<b_1>"]],
    items="wxyz",  # w is new; x and y, which shared a token, are apart now
    users="qrs",  # r is new
)


def test_rows_of_tokens_follow_what_they_stand_for() -> None:
    stored = np.arange(9, dtype=np.float32)[:, None]
    start = np.full((12, 1), -1, np.float32)  # one row more than tokens, as T5 has it
    rows = token_rows(start, NOW, stored, BEFORE)[:, 0].tolist()
    unknown, after = 0, 1
    user_q, user_s = 3, 4
    a_0, a_1, b_0, b_1 = 5, 6, 7, 8
    assert rows == [
        *(unknown, -1, after),
        *(user_q, -1, user_s),
        a_0,  # y alone, which had a_0
        a_0,  # w, which is new, and x, which had a_0
        a_1,  # z
        b_1,  # w, and y, which had b_1
        (b_0 + b_0) / 2,  # x and z
        -1,
    ]
    assert start.max() == -1  # what is given stays


def test_users_who_share_a_token_hand_over_its_row() -> None:
    shared = vocabulary(["<unk>", "<user_0>"], [["<unk>"]], items="x", users="qrs")
    rows = token_rows(np.zeros((2, 1), np.float32), shared, np.ones((2, 1), np.float32), shared)
    assert rows.tolist() == [[1], [1]]


def test_a_row_is_the_mean_of_what_is_said() -> None:
    rows = np.zeros((3, 2), np.float32)
    set_means(rows, np.array([2, 0, 2]), np.array([[1, 2], [5, 6], [3, 4]], np.float32))
    assert rows.tolist() == [[5, 6], [0, 0], [2, 3]]


def test_known_items_keep_their_vectors_and_new_ones_get_theirs_by_text() -> None:
    rng = np.random.default_rng(0)
    content = rng.normal(size=(40, 3)).astype(np.float32)
    truth = content @ rng.normal(size=(3, 4)).astype(np.float32)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    now = [f"i{i}" for i in range(40)]
    before = [f"i{i}" for i in reversed(range(1, 40, 1)) if i % 10]
    kept = Kept.of(now, before)
    stored = truth[[int(name[1:]) for name in before]]
    vectors = item_vectors(stored, kept, content, np.ones(40, np.int64))
    known = [i for i in range(40) if i % 10]
    np.testing.assert_array_equal(vectors[known], truth[known])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for item in (0, 10, 20, 30):  # a linear map loses what the norms were, and little else
        assert vectors[item] @ truth[item] > 0.9


def test_kept_is_empty_where_nothing_is_shared() -> None:
    kept = Kept.of("ab", "cd")
    assert kept.now.shape == kept.before.shape == (0,)


@pytest.mark.parametrize("names", ["", "abc"])
def test_everything_is_kept_of_the_same(names: str) -> None:
    kept = Kept.of(names, names)
    assert kept.now.tolist() == kept.before.tolist() == list(range(len(names)))
