"""The rating family: what is shown, what is asked, and what it costs to be wrong."""

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from core.codes import code_tokens
from offline.generator.items.batches import IGNORE
from offline.generator.items.model import ItemT5
from offline.generator.items.ratings import RATINGS_AT_ONCE, RatingItems, rating_logits
from offline.generator.tokenizer import extend, from_scratch
from offline.generator.tokens.examples import ExampleSource
from offline.generator.tokens.ratings import TokenRatings
from offline.ratings.rated import Rated, rating_codes
from services.generator.prompts import Template, rating_text
from tests.generator.made_up import level_texts, random_levels
from tests.generator.made_up_items import random_item_t5

ASKED = Template("rating", "seen", "rated : {history} {item}", "{rating}")
OTHER = Template("rating", "seen", "stars of {history} {item}", "{rating}")
NUMBER = {ASKED: 1, OTHER: 2}
TEXTS = level_texts(random_levels(30, (6, 7)))
VALUES = 5


def some_ratings(lengths: list[int], seed: int = 0) -> Rated:
    """Item `100 u + i` is the item `i` that the user `u` has rated, by its last digit."""
    users = np.repeat(np.arange(len(lengths)), lengths)
    items = np.concatenate([100 * user + np.arange(n) for user, n in enumerate(lengths)])
    order = np.random.default_rng(seed).permutation(len(users))
    return Rated(users[order], items[order], items[order] % VALUES)


def family(rated: Rated, most: int = 32) -> RatingItems:
    model = cast(ItemT5, None)  # that learns from them
    return RatingItems(model, rated, [ASKED, OTHER], lambda asked, _: [NUMBER[asked], 9], most)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 9))
def test_a_pass_asks_for_every_rating_once(lengths: list[int], most: int, seed: int) -> None:
    rated = some_ratings(lengths)
    found = []
    for batch in family(rated, most).batches(np.random.default_rng(seed), None):
        assert batch.items.shape[1] <= most
        assert batch.items.numel() <= max(RATINGS_AT_ONCE, batch.items.shape[1])
        assert len(batch.words) == len(batch.items)
        for items, values in zip(batch.items, batch.values, strict=True):
            known = values != IGNORE
            assert torch.equal(values[known], items[known] % VALUES)
            assert len({int(item) // 100 for item in items[known]}) == 1, "of one user"
            found += items[known].tolist()
    assert sorted(found) == sorted(rated.items.tolist())


@given(st.integers(1, 12))
def test_so_many_batches_are_made_as_asked_for(count: int) -> None:
    assert len(family(some_ratings([40] * 60)).batches(np.random.default_rng(0), count)) == count


def test_ratings_come_in_another_order_each_time() -> None:
    source = family(some_ratings([6]))
    orders = {
        tuple(source.batches(np.random.default_rng(seed), None)[0].items[0].tolist())
        for seed in range(30)
    }
    assert len(orders) > 20


@pytest.fixture(scope="module")
def model() -> ItemT5:
    tokenizer = from_scratch([ASKED], "made-up", TEXTS, ratings=VALUES, ends=False)
    codes = code_tokens(tokenizer, TEXTS, eos=1, pad=0, unknown=2)
    model = random_item_t5(codes, tokenizer.get_vocab_size())
    model.add_ratings(rating_codes(VALUES, tokenizer, 2, 0)[:, 0].tolist())
    assert model.rating_vectors is not None
    nn.init.normal_(model.rating_vectors, std=0.3)
    return model


@torch.no_grad()
def test_a_rating_knows_those_before_it_alone(model: ItemT5) -> None:
    words = torch.tensor([[3, 4]] * 2)
    items, values = torch.tensor([[3, 9, 21, 0], [8, 3, 1, 2]]), torch.tensor([[0, 4, 2, 1]] * 2)
    whole = rating_logits(model, words, items, values)
    assert whole.shape == (2, 4, VALUES)
    for count in range(1, 5):
        part = rating_logits(model, words, items[:, :count], values[:, :count])
        torch.testing.assert_close(part[:, -1], whole[:, count - 1], atol=1e-5, rtol=1e-5)
    values[:, -1] = 3
    torch.testing.assert_close(rating_logits(model, words, items, values), whole)


@torch.no_grad()
def test_the_loss_is_the_cross_entropy_of_known_ratings(model: ItemT5) -> None:
    rated = Rated(np.array([0, 0, 0, 1]), np.array([3, 9, 21, 8]), np.array([0, 4, 2, 1]))
    source = RatingItems(model, rated, [ASKED], lambda _asked, _user: [3, 4])
    (batch,) = source.batches(np.random.default_rng(0), None)
    losses = [
        F.cross_entropy(rating_logits(model, words[None], items[None], values.clamp(min=0)[None])
                        [0, place], values[place])
        for words, items, values in zip(batch.words, batch.items, batch.values, strict=True)
        for place in range(int((values != IGNORE).sum()))
    ]  # fmt: skip
    assert len(losses) == 4
    assert float(source.loss(batch)) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def token_family(batch_size: int = 4) -> TokenRatings:
    tokenizer = from_scratch([ASKED, OTHER], "made-up", TEXTS, ratings=VALUES)
    codes = code_tokens(tokenizer, TEXTS, eos=1, pad=0, unknown=2)
    source = ExampleSource(
        sequences=[], codes=codes, code_texts=TEXTS, templates=[ASKED, OTHER],
        tokenizer=tokenizer, dataset="made-up", max_history=10, max_tokens=64, targets=1,
        direct_share=0.0, history_dropout=0.0, pad=0,
    )  # fmt: skip
    users, items = np.repeat([0, 1, 2], [5, 1, 8]), np.arange(14)
    leaves = rating_codes(VALUES, tokenizer, 2, 0)
    rated = Rated(users, items, items % VALUES)
    return TokenRatings(nn.Identity(), source, rated, leaves, batch_size)


def test_prompts_of_tokens_show_other_ratings_of_the_user() -> None:
    source = token_family()
    asked = []
    for draw in source.batches(np.random.default_rng(0), None):
        written = source.write(draw)
        for row, prompt, label in zip(draw.rows, written.input_ids, written.labels, strict=True):
            *shown, last = row.tolist()
            assert {int(source.rated.users[r]) for r in row} == {int(source.rated.users[last])}
            assert len({*shown, last}) == len(row)
            told = "".join(f"{TEXTS[r]}{rating_text(r % VALUES)}" for r in shown) + TEXTS[last]
            text = source.source.tokenizer.decode(prompt.tolist(), skip_special_tokens=False)
            assert told in text.replace(" ", "")
            assert label.tolist() == [[source.codes[last % VALUES, 0], IGNORE]]
            asked.append(last)
    assert set(asked) == set(range(14))


@pytest.mark.parametrize("count", [1, 3, 10])
def test_token_batches_are_as_many_as_asked_for(count: int) -> None:
    made = token_family().batches(np.random.default_rng(0), count)
    assert [len(draw.rows) for draw in made] == [4] * count


def test_a_checkpoints_tokenizer_gets_ratings() -> None:
    tokenizer = extend(from_scratch([ASKED], "made-up", []), TEXTS, ratings=2)
    tokens = tokenizer.encode(f"{TEXTS[0]} <rating_1>").tokens
    assert tokens[-2:] == ["<rating_1>", "</s>"]
