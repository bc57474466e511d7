"""A model that reads whole items learns to write: what it learned comes out again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.codes import code_tokens
from offline.generator.config import FamilyShares, TextTrainConfig
from offline.generator.items.model import ItemT5
from offline.generator.items.texts import text_loss, word_logits, write_texts
from offline.generator.subwords import from_texts
from offline.generator.texts.batches import IGNORE, TextBatch
from offline.generator.texts.family import TextFamily
from offline.generator.texts.learned import TextMaterial
from offline.generator.tokenizer import EOS, PAD, UNK
from services.generator.prompts import Template
from services.generator.text.engine import TextEngine, TextJob
from services.generator.text.rendering import best_template
from tests.generator.made_up import level_texts, random_levels, random_t5
from tests.generator.made_up_items import MadeUpItems
from tests.generator.text.made_up_text import MAX_TOKENS, write_all, write_item_text_bundle
from tests.offline.reviews.made_up import ITEMS, USERS, written

TEMPLATES = (
    Template("explanation", "seen", "explain {item} to {user}", "{text}"),
    Template("explanation", "seen", "{user} chose {history} and , by {feature} , {item}", "{text}"),
    Template("review", "seen", "sum up : {text}", "{text}"),
)
CODES = level_texts(random_levels(ITEMS, (3, 4)))
MADE = written()
TOKENIZER = from_texts(
    MADE.training_texts(), TEMPLATES, "made-up", CODES, user_tokens=USERS, pieces=200
)
MATERIAL = TextMaterial(
    MADE, TEMPLATES, TOKENIZER, USERS, 60, TextTrainConfig(batch_size=8, max_tokens=20)
)


def token_id(token: str) -> int:
    found = TOKENIZER.token_to_id(token)
    assert found is not None
    return found


def make_model(scale: float = 1.0) -> ItemT5:
    """An untrained model; with larger weights so small a one learns sooner what to attend to."""
    size = TOKENIZER.get_vocab_size()
    t5 = random_t5(size, {"num_decoder_layers": 1, "dropout_rate": 0.0, "d_model": 32})
    codes = code_tokens(TOKENIZER, CODES, eos=1, pad=0, unknown=2)
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 32)).astype(np.float32)
    torch.manual_seed(0)
    model = ItemT5(t5, vectors, codes).eval()
    with torch.no_grad():
        for parameter in model.t5.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1.0)
    return model


def families(model: ItemT5, batch_size: int = 8) -> list[TextFamily]:
    shares = FamilyShares(explanation=1, review=1)
    learned = MATERIAL.families(model, shares)
    return [replace(family, batch_size=batch_size) for family, _ in learned]


# -- the vocabulary --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MADE.training_texts()[:20])
def test_texts_survive_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text.lower()


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789,.!?'-", min_size=1, max_size=30))
def test_new_words_survive_the_tokenizer(word: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(word).ids) == word


def test_special_tokens_are_where_t5_has_them() -> None:
    assert [token_id(token) for token in (PAD, EOS, UNK)] == [0, 1, 2]


def test_users_are_one_token_each() -> None:
    ids = TOKENIZER.encode("for <user_3> and <user_7>").ids
    assert [token_id(f"<user_{user}>") in ids for user in (3, 7, 5)] == [
        True, True, False,
    ]  # fmt: skip


def test_codes_stand_behind_all_words() -> None:
    levels = [token_id(text) for text in CODES[0].replace("><", "> <").split()]
    assert min(levels) > token_id(f"<user_{USERS - 1}>")


def test_the_tokenizer_knows_training_texts_alone() -> None:
    again = from_texts(
        [*MADE.training_texts()], TEMPLATES, "made-up", CODES, user_tokens=USERS, pieces=200
    )
    assert again.to_str() == TOKENIZER.to_str()


# -- batches ---------------------------------------------------------------------------------------


def test_a_pass_has_every_text_once() -> None:
    family = families(make_model())[0]
    batches = family.batches(np.random.default_rng(0), None)
    found = sorted(
        TOKENIZER.decode(row[row != IGNORE].tolist()) for b in batches for row in b.labels
    )
    assert found == sorted(example.target.lower() for example in family.examples)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_as_many_batches_as_asked_for(count: int) -> None:
    family = families(make_model())[1]
    one, same = (family.batches(np.random.default_rng(4), count) for _ in range(2))
    assert len(one) == count
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(one, same, strict=True))


def test_long_texts_are_cut_without_an_end() -> None:
    family = replace(families(make_model())[0], max_text_tokens=5)
    assert len(family.target(MADE.reviews.texts[0])) == 5
    assert family.eos not in family.target(MADE.reviews.texts[0])
    assert family.target("a")[-1] == family.eos


# -- the model -------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(others=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_padding_changes_no_loss(others: list[int]) -> None:
    model = make_model()
    prompt, text = [5, TOKENIZER.get_vocab_size() + 2, 9], [7, 8, 1]
    alone = text_loss(model, TextBatch.of([prompt], [text]))
    company = [[6] * length for length in others]
    batch = TextBatch.of([prompt, *company], [text, *company])
    labels = batch.labels.clone()
    labels[1:] = IGNORE
    assert text_loss(model, replace(batch, labels=labels)).item() == pytest.approx(
        alone.item(), abs=1e-5
    )


def test_what_was_learned_is_written_again() -> None:
    model = make_model(scale=4.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(60):
        for family in families(model, batch_size=32):
            for batch in family.batches(rng, None):
                optimizer.zero_grad()
                loss = family.loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])
    prompts = MATERIAL.prompts()
    for family in families(model):
        questions = [example.question() for example in family.examples]
        ids = [prompts.ids(best_template(family.templates, q), q) for q in questions]
        texts = [TOKENIZER.decode(tokens) for tokens in write_texts(model, ids, 20)]
        assert texts == [example.target.lower() for example in family.examples]


def test_neither_users_nor_codes_are_words(tmp_path: Path) -> None:
    model = make_model()
    assert families(model)
    model.start_users(
        [token_id(f"<user_{user}>") for user in range(USERS)],
        np.full((USERS, 32), 32**-0.5, np.float32),
    )
    model.save(tmp_path)
    codes = code_tokens(TOKENIZER, CODES, eos=1, pad=0, unknown=2)
    for each in (model, ItemT5.load(tmp_path, codes)):
        words = word_logits(each, torch.ones(1, 32)).shape[1]
        assert words == token_id("<user_0>")


# -- the graph -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> MadeUpItems:
    return write_item_text_bundle(tmp_path_factory.mktemp("items"))


def test_the_graph_writes_what_the_model_writes(served: MadeUpItems) -> None:
    size = served.model.t5.config.vocab_size
    rng = np.random.default_rng(0)
    prompts = [
        [*rng.integers(3, 20, length).tolist(), size + int(rng.integers(60))]
        for length in (1, 4, 9, 4)
    ]
    engine = TextEngine(served.engine.parts)
    jobs = [TextJob(served.engine.snapshot, prompt, MAX_TOKENS) for prompt in prompts]
    by_graph = [[t for t in tokens if t != 1] for tokens in write_all(engine, jobs)]
    assert by_graph == write_texts(served.model, prompts, MAX_TOKENS)
