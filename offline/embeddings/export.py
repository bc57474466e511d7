"""The text embedder as ONNX: what serving runs with onnxruntime and tokenizers alone."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from offline.embeddings.embed import FloatArray
from offline.embeddings.model import SentenceEncoder, TextEmbedder
from offline.embeddings.onnx_model import OnnxSentenceEncoder
from offline.parity import ParityError

GRAPH = "text_encoder.onnx"
TOKENIZER = "text_tokenizer.json"
MIN_COSINE = 0.9999

_OPSET = 17
_PROTOBUF_LIMIT = 1_900_000_000  # a protobuf holds less than 2 GiB
# Different lengths, so that a missing mask shows; accents, emoji and an overlong text.
_PROBES = (
    "Toy Story (1995). Genres: Animation, Children's, Comedy",
    "a",
    "Am\u00e9lie \u2013 le fabuleux destin \U0001f3ac",
    "\u4e03\u4eba\u306e\u4f8d",
    "word " * 2000,
)


@dataclass(frozen=True)
class TextEncoderExport:
    """What was exported: the manifest's description of the text encoder."""

    files: tuple[str, ...]
    dimension: int
    max_length: int
    prompt: str
    query_prompt: str
    pooling: str
    min_cosine: float
    """The worst cosine between the vectors of torch and ONNX Runtime, over the probe texts."""


def export_text_encoder(
    embedder: TextEmbedder, directory: Path, probes: Sequence[str] = ()
) -> TextEncoderExport:
    """Writes `text_encoder.onnx` and `text_tokenizer.json`, and checks the two against torch.

    The graph takes `input_ids` and `attention_mask`, int64 [texts, tokens], and gives `vectors`,
    float32 [texts, dimension], of unit norm; pooling is inside. The tokenizer truncates to the
    embedder's maximum length and pads. The prompt is not in either: the caller puts it before
    every text. Weights that exceed a protobuf go to `text_encoder.onnx.data`.

    Args:
        embedder: What to export.
        directory: An existing directory for the files.
        probes: Texts to check parity on, such as some of the catalog's, beside the built-in ones.

    Raises:
        ParityError: a vector's cosine to the torch model's is not above .9999.
    """
    embedder.tokenizer.save(str(directory / TOKENIZER))
    _export_graph(embedder.encoder, directory / GRAPH)
    batches = [_PROBES, probes] if probes else [_PROBES]
    expected = np.concatenate([_with_torch(embedder, texts) for texts in batches])
    session = ort.InferenceSession(directory / GRAPH, providers=["CPUExecutionProvider"])
    actual = np.concatenate([_with_onnx(embedder, session, texts) for texts in batches])
    cosine = float((expected * actual).sum(1).min())
    if not cosine > MIN_COSINE:  # a NaN fails too
        raise ParityError(
            f"the exported text encoder differs from the torch model: cosine {cosine:.6f}, "
            f"not above {MIN_COSINE}"
        )
    return TextEncoderExport(
        files=(*sorted(path.name for path in directory.glob(f"{GRAPH}*")), TOKENIZER),
        dimension=expected.shape[1],
        max_length=embedder.max_length,
        prompt=embedder.prompt,
        query_prompt=embedder.query_prompt,
        pooling=embedder.encoder.head.pooling,
        min_cosine=cosine,
    )


def _export_graph(
    encoder: SentenceEncoder | OnnxSentenceEncoder, path: Path, limit: int = _PROTOBUF_LIMIT
) -> None:
    """Writes the graph; what exceeds a protobuf goes into one file beside it."""
    with (
        tempfile.TemporaryDirectory(dir=path.parent) as scratch,
        torch.no_grad(),
        warnings.catch_warnings(action="ignore"),  # they are about what parity is checked for
    ):
        if isinstance(encoder, OnnxSentenceEncoder):
            graph = encoder.whole(Path(scratch))
        else:
            graph = _traced(encoder, Path(scratch))
        if graph.ByteSize() > limit:
            onnx.save(graph, path, save_as_external_data=True, location=f"{path.name}.data")
        else:
            onnx.save(graph, path)


def _traced(encoder: SentenceEncoder, scratch: Path) -> onnx.ModelProto:
    ids = torch.ones(2, 3, dtype=torch.int64, device=encoder.device)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]], device=ids.device)
    # Above the limit the exporter writes one file a tensor, which loading gathers.
    torch.onnx.export(
        encoder,
        (ids, mask),
        str(scratch / GRAPH),
        input_names=["input_ids", "attention_mask"],
        output_names=["vectors"],
        dynamic_axes={
            "input_ids": {0: "texts", 1: "tokens"},
            "attention_mask": {0: "texts", 1: "tokens"},
            "vectors": {0: "texts"},
        },
        opset_version=_OPSET,
        # The TorchScript exporter: smaller graphs, and the dynamo one needs onnxscript.
        dynamo=False,
    )
    return onnx.load(scratch / GRAPH)


def _with_torch(embedder: TextEmbedder, texts: Sequence[str]) -> FloatArray:
    ids, mask = embedder.tokenize(texts)
    with torch.inference_mode():
        vectors = embedder.encoder(ids.to(embedder.device), mask.to(embedder.device))
    return np.asarray(vectors.cpu().numpy(), dtype=np.float32)


def _with_onnx(
    embedder: TextEmbedder, session: ort.InferenceSession, texts: Sequence[str]
) -> FloatArray:
    ids, mask = embedder.tokenize(texts)
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    return np.asarray(session.run(["vectors"], inputs)[0], dtype=np.float32)
