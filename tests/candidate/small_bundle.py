"""A bundle of the made-up world, with graphs of a few nodes in place of trained encoders."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from core.bundle import write_bundle
from core.manifest import CandidateSection
from services.candidate.index.space import Space, SpaceName
from tests import tiny_bundle
from tests.candidate.made_up import BEHAVIOR, CONTENT, World, make_catalog

WORDS = ("[UNK]", "Film", "a", "query", ":")
VALUES = 14
"""At each of the two levels of codes, of which there are as many as two levels have."""
CODES = np.array(
    [(2 + i % VALUES, 2 + VALUES + (i + i // VALUES) % VALUES) for i in range(VALUES**2)], np.int32
)
PROJECTION = np.random.default_rng(4).normal(size=(CONTENT + 1, BEHAVIOR)).astype(np.float32)
TEXT_TABLE = np.random.default_rng(3).normal(size=(len(WORDS), CONTENT)).astype(np.float32)


def write_small_bundle(root: Path, world: World) -> Path:
    """Writes a bundle that only the candidate service can serve, and returns its directory."""
    section = CandidateSection(
        max_history=world.max_history,
        transition_window=world.transitions.window,
        transition_decay=world.transitions.decay,
        behavior_weight=world.weights.behavior,
        transition_weight=world.weights.transitions,
        text_prefix="query : ",
    )
    manifest = tiny_bundle.manifest(items=world.items, candidate=section)
    with write_bundle(root, manifest) as directory:
        make_catalog(world).write(directory / "catalog.jsonl")
        Space.write(directory, SpaceName.CONTENT, world.content)
        Space.write(directory, SpaceName.BEHAVIOR, world.behavior)
        for name in ("indptr", "items", "weights"):
            array = getattr(world.transitions, name)
            np.save(directory / f"transitions_{name}.npy", array, allow_pickle=False)
        onnx.save(mean_of_history(), directory / "query_encoder.onnx")
        onnx.save(mean_of_words(), directory / "text_encoder.onnx")
        words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, WORDS[0]))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        words.save(str(directory / "text_tokenizer.json"))
        np.save(directory / "behavior_projection.npy", PROJECTION)
        np.save(directory / "code_tokens.npy", CODES[: world.items])
        texts = [code_text(row) for row in CODES[: world.items].tolist()]
        (directory / "codes.txt").write_text("".join(f"{t}\n" for t in texts), encoding="utf-8")
        code_tokenizer().save(str(directory / "generator_tokenizer.json"))
    return root / manifest.name / manifest.version


def code_text(tokens: list[int]) -> str:
    """A code as a prompt shows it."""
    return "".join(f"<{'ab'[level]}_{token}>" for level, token in enumerate(tokens))


def code_tokenizer() -> Tokenizer:
    """Knows the tokens of codes; token 1 ends them."""
    words = {"<pad>": 0, "</s>": 1}
    for level, values in zip("ab", CODES.T, strict=True):
        words |= {f"<{level}_{token}>": token for token in np.unique(values).tolist()}
    tokenizer = Tokenizer(models.WordLevel(words, "<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<[a-z]_\d+>"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def mean_of_history() -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceSum", ["history", "one"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["lengths"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["count", "one"], ["column"]),
        helper.make_node("Div", ["sum", "column"], ["query"]),
    ]
    inputs = [
        helper.make_tensor_value_info("history", TensorProto.FLOAT, ["u", "t", BEHAVIOR]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["u"]),
    ]
    output = helper.make_tensor_value_info("query", TensorProto.FLOAT, ["u", BEHAVIOR])
    return model(nodes, inputs, output, one=np.array([1]))


def mean_of_words() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["column"]),
        helper.make_node("Mul", ["words", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"]),
        helper.make_node("Div", ["sum", "count"], ["vectors"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", CONTENT])
    return model(nodes, inputs, output, table=TEXT_TABLE, one=np.array([1]), two=np.array([2]))


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
    **constants: np.ndarray,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "made-up", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
