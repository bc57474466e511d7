"""Parameters that are read back out of exported graphs are those of the model."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from core.errors import BundleError
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.graph import query_graph
from offline.query_encoder.model import QueryEncoder
from offline.warm.read_back import FIRST, numbered, read_back
from offline.warm.stored import stored_generator
from tests.generator.made_up import (
    Backbone,
    level_texts,
    random_levels,
    random_llama,
    random_t5,
    write_made_up,
)
from tests.generator.made_up_items import write_made_up_items

TEXTS = level_texts(random_levels(60, (4, 5, 6)))
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
BIAS = "relative_attention_bias.weight"
"""Of these only the distances that can come up are in the graphs."""


def assert_read_back(found: nn.Module, model: nn.Module) -> None:
    expected: dict[str, torch.Tensor] = dict(model.named_parameters())
    assert found.state_dict().keys() == model.state_dict().keys()
    for name, parameter in found.named_parameters():
        if name.endswith(BIAS):
            continue
        if name == "item_vectors":
            expected[name] = nn.functional.normalize(expected[name], dim=-1)
        torch.testing.assert_close(parameter, expected[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "t5"),
    [
        pytest.param(TEXTS, {}, id="tied embeddings"),
        pytest.param(TEXTS, GATED, id="T5 1.1"),
        pytest.param(["<a_0>", "<a_1><b_0>", "<a_1><b_1><c_0>"], {}, id="codes of any length"),
    ],
)
def test_a_model_of_tokens_is_read_back(
    tmp_path: Path, texts: list[str], t5: dict[str, object]
) -> None:
    made_up = write_made_up(tmp_path, texts, changes=t5, histories={"ann": [0, 1, 2]})
    assert_read_back(stored_generator(made_up.bundle, random_t5(7, t5)), made_up.model)


@pytest.mark.parametrize("backbone", ["llama", "qwen2", "qwen3"])
def test_a_decoder_alone_is_read_back(tmp_path: Path, backbone: Backbone) -> None:
    made_up = write_made_up(tmp_path, TEXTS, backbone=backbone, histories={"ann": [0, 1, 2]})
    like = random_llama(7, {}, backbone)
    assert_read_back(stored_generator(made_up.bundle, like), made_up.model)


def test_a_model_of_items_is_read_back(tmp_path: Path) -> None:
    made_up = write_made_up_items(tmp_path, TEXTS)
    weights = made_up.bundle.file("generator.fp32.weights")
    (tmp_path / "second name").hardlink_to(weights)  # as the build leaves them
    like = random_t5(7, {"num_decoder_layers": 1})
    assert_read_back(stored_generator(made_up.bundle, like), made_up.model)


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    made_up = write_made_up(tmp_path, TEXTS)
    for change in ({"d_ff": 32}, {"num_layers": 3}):
        with pytest.raises(BundleError, match=r"encode\.fp32\.onnx is of a model of another shape"):
            stored_generator(made_up.bundle, random_t5(7, change))


def test_equal_parameters_are_told_apart(tmp_path: Path) -> None:
    """The graph stores equal arrays once, such as the ones of fresh norms."""
    config = QueryEncoderConfig(dimension=8, layers=3)
    model, counting = QueryEncoder(config), QueryEncoder(config).double()
    onnx.save(query_graph(model, 10), tmp_path / "graph.onnx")
    numbers = numbered({name: tuple(p.shape) for name, p in model.named_parameters()})
    counting.load_state_dict({name: torch.from_numpy(a) for name, a in numbers.items()})
    found = read_back(numbers, [query_graph(counting, 10)], [tmp_path / "graph.onnx"])
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(found[name], parameter.detach().numpy())


def test_every_number_is_another_one() -> None:
    arrays = numbered({"large": (3, 4), "scalar": (), "small": (2,)})
    numbers = np.concatenate([array.ravel() for array in arrays.values()])
    assert sorted(numbers) == list(range(FIRST, FIRST + 15))
    assert arrays["scalar"] == FIRST
