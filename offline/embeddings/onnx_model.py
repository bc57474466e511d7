"""An embedder that is an ONNX graph already: `model.onnx` beside `tokenizer.json`.

Its inputs are `input_ids`, `attention_mask` and perhaps `token_type_ids`, which are all 0; its
first output is the token states, or vectors that are pooled already.
"""

import json
from pathlib import Path
from typing import Final

import onnx
import onnxruntime as ort
import torch
from onnx import helper
from tokenizers import Tokenizer
from torch import Tensor

from offline.embeddings.head import Head
from offline.embeddings.layout import Layout, UnsupportedModel

GRAPHS: Final = ("model.onnx", "onnx/model.onnx")
TOKENIZER_FILE: Final = "tokenizer.json"
_READ: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_OLDEST_OPSET: Final = 11
_PREFIX: Final = "head/"


def graph_of(directory: Path) -> Path | None:
    """The graph of a model directory that has no weights for torch; None where it has."""
    if any(directory.glob("*.safetensors")) or any(directory.glob("*.bin")):
        return None
    found = (directory / name for name in GRAPHS)
    return next((graph for graph in found if graph.is_file()), None)


class OnnxSentenceEncoder:
    """Token ids to unit vectors, as `SentenceEncoder`, with the transformer in ONNX Runtime.

    Raises:
        UnsupportedModel: the graph has other inputs, or is of an older opset.
    """

    device: Final = torch.device("cpu")

    def __init__(self, graph: Path, head: Head) -> None:
        self.head = head
        self._graph = graph
        self._session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self._inputs = {given.name for given in self._session.get_inputs()}
        if not {"input_ids", "attention_mask"} <= self._inputs <= _READ:
            raise UnsupportedModel(f"{graph} has the inputs {', '.join(sorted(self._inputs))}")

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See `SentenceEncoder.forward`."""
        ids, mask = input_ids.numpy(), attention_mask.numpy()
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
        first = self._session.get_outputs()[0].name
        (states,) = self._session.run([first], {name: given[name] for name in self._inputs})
        vectors: Tensor = self.head(torch.from_numpy(states), attention_mask)
        return vectors

    def whole(self, scratch: Path) -> onnx.ModelProto:
        """The transformer and the head as one graph, from `input_ids` and `attention_mask` to
        `vectors`.

        Args:
            scratch: a directory for files on the way.
        """
        model = onnx.load(self._graph)
        opset = next(own.version for own in model.opset_import if own.domain in ("", "ai.onnx"))
        if opset < _OLDEST_OPSET:
            raise UnsupportedModel(
                f"{self._graph} is of opset {opset}, not {_OLDEST_OPSET} or newer"
            )
        head = onnx.compose.add_prefix(self._exported_head(scratch, opset), _PREFIX)
        graph = model.graph
        if "token_type_ids" in self._inputs:
            zeros = helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"])
            graph.node.insert(0, zeros)
        joints = {
            f"{_PREFIX}states": graph.output[0].name,
            f"{_PREFIX}attention_mask": "attention_mask",
        }
        graph.node.extend(helper.make_node("Identity", [a], [b]) for b, a in joints.items())
        graph.node.extend(head.graph.node)
        graph.node.append(helper.make_node("Identity", [f"{_PREFIX}vectors"], ["vectors"]))
        graph.initializer.extend(head.graph.initializer)
        kept = [given for given in graph.input if given.name != "token_type_ids"]
        vectors = helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, ["texts", None])
        del graph.input[:], graph.output[:]
        graph.input.extend(kept)
        graph.output.append(vectors)
        return model

    def _exported_head(self, scratch: Path, opset: int) -> onnx.ModelProto:
        axes = {"attention_mask": {0: "texts", 1: "tokens"}, "vectors": {0: "texts"}}
        rank = len(self._session.get_outputs()[0].shape)
        states = torch.zeros(2, *([3] if rank == 3 else []), self._width())
        axes["states"] = {0: "texts", 1: "tokens"} if rank == 3 else {0: "texts"}
        torch.onnx.export(
            self.head,
            (states, torch.ones(2, 3, dtype=torch.int64)),
            str(scratch / "head.onnx"),
            input_names=["states", "attention_mask"],
            output_names=["vectors"],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
        return onnx.load(scratch / "head.onnx")

    def _width(self) -> int:
        return int(self._session.get_outputs()[0].shape[-1])


def read_tokenizer(directory: Path, layout: Layout, fallback: int) -> Tokenizer:
    """The tokenizer of such a directory.

    Args:
        directory: the model's.
        layout: what its files say.
        fallback: the longest input in tokens where they say nothing.

    Raises:
        UnsupportedModel: there is none.
    """
    file = directory / TOKENIZER_FILE
    if not file.is_file():
        raise UnsupportedModel(f"{directory} has no {TOKENIZER_FILE} beside its graph")
    tokenizer = Tokenizer.from_file(str(file))
    limits = (
        layout.max_length,
        (tokenizer.truncation or {}).get("max_length"),
        _number(directory / "config.json", "max_position_embeddings"),
        _number(directory / "tokenizer_config.json", "model_max_length"),
        fallback,
    )
    pad = (tokenizer.padding or {}).get("pad_id", 0)
    tokenizer.enable_truncation(min(int(limit) for limit in limits if limit))
    tokenizer.enable_padding(direction="right", pad_id=pad)
    return tokenizer


def _number(file: Path, name: str) -> float | None:
    """A number of a JSON file that may not be there."""
    if not file.is_file():
        return None
    value: float | None = json.loads(file.read_text(encoding="utf-8")).get(name)
    return value
