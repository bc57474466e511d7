"""Rows of code tokens in a checkpoint: they start from the words of their items."""

from pathlib import Path

import pytest
import torch

from offline.generator.tokenizer import OWN_TOKEN, extend
from offline.generator.tokens.backbones import from_checkpoint
from offline.generator.tokens.model import fit_vocabulary, tables_of
from offline.generator.tokens.rows import start_from_texts
from tests.generator.made_up import Backbone
from tests.offline.tiny_models import save_llama, save_t5

CODES = ["<a_0><b_0>", "<a_0><b_1>", "<a_1><b_0>", "<a_2><b_1>"]
TEXTS = ["abba", "abab", "xyxy", "baab"]


@pytest.mark.parametrize("kind", ["t5", "llama", "qwen2"])
def test_codes_of_like_texts_start_alike(tmp_path: Path, kind: Backbone) -> None:
    saved = save_t5(tmp_path) if kind == "t5" else save_llama(tmp_path, kind=kind)
    model, tokenizer = from_checkpoint(saved, dropout=0.0)
    extend(tokenizer, CODES)
    fit_vocabulary(model, tokenizer)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    start_from_texts(model, tokenizer, CODES, TEXTS)
    tokens = OWN_TOKEN.findall("".join(CODES))
    rows = {token: tokenizer.token_to_id(token) for token in tokens}
    changed = set()
    for name, weights in model.state_dict().items():
        different = (weights != before[name]).nonzero()
        if len(different):
            assert set(different[:, 0].tolist()) == set(rows.values())
            changed.add(name)
    assert changed
    for table in tables_of(model):
        weights = table.get_parameter("weight").detach()
        a0, a1, a2 = (weights[rows[f"<a_{i}>"]] for i in range(3))
        assert torch.dist(a0, a2) < torch.dist(a0, a1) / 2, "both are of the same letters"


def test_codes_written_as_text_have_no_rows(tmp_path: Path) -> None:
    model, tokenizer = from_checkpoint(save_t5(tmp_path), dropout=0.0)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    start_from_texts(model, tokenizer, ["item_1", "item_2"], ["a", "b"])
    assert all(torch.equal(weights, before[name]) for name, weights in model.state_dict().items())
