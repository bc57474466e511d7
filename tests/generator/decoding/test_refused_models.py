"""Models that would be exported wrongly are refused, with a message that says why."""

import pytest

from offline.generator.export.llama.layers import LlamaWeights
from tests.generator.made_up import Backbone, random_llama

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
WINDOW = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        ("llama", {"max_position_embeddings": 31}, "take 32 positions, the model reads 31"),
        ("llama", {"hidden_act": "gelu"}, "a feed-forward network with gelu"),
        ("llama", {"rope_parameters": DYNAMIC}, "rotary positions of the type dynamic"),
        ("qwen2", WINDOW, "take 32 positions, the model attends to 16"),
    ],
)
def test_what_is_built_otherwise_is_refused(
    kind: Backbone, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        LlamaWeights.of(random_llama(40, changes, kind), 32)
