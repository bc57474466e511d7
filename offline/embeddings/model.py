"""The text embedder in torch: backbone, pooling, dense layers, unit norm, as one module."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, normalizers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
)
from transformers.utils import logging

from offline.embeddings.config import EmbedderConfig, Pooling
from offline.embeddings.families import Family, family_of
from offline.embeddings.head import Head
from offline.embeddings.layout import Layout, UnsupportedModel, locate, read_layout
from offline.embeddings.onnx_model import OnnxSentenceEncoder, graph_of, read_tokenizer

_MAX_LENGTH = 512
"""Where a model names no limit: item texts are short, and attention is quadratic."""


class SentenceEncoder(nn.Module):
    """Token ids to unit vectors, pooling included, so that one graph is all that serving runs."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.parameters()).device

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embeds a batch, padded on the right.

        Args:
            input_ids: int64 [texts, tokens].
            attention_mask: int64 [texts, tokens], 1 for a token and 0 for padding.

        Returns:
            float32 [texts, dimension], of unit norm.
        """
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask)[0]
        vectors: Tensor = self.head(states, attention_mask)
        return vectors


class TextEmbedder:
    """A sentence encoder with its tokenizer and what goes before item texts and queries.

    The tokenizer is the `tokenizers` object that is exported too, so that offline and serving
    cannot tokenize differently. It truncates, and pads on the right: a decoder's positions then
    start at its first token, whatever else is in the batch.
    """

    def __init__(
        self,
        encoder: SentenceEncoder | OnnxSentenceEncoder,
        tokenizer: Tokenizer,
        prompts: tuple[str, str],
        config: EmbedderConfig,
    ) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.prompt, self.query_prompt = prompts
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the encoder runs."""
        return self.encoder.device

    @property
    def max_length(self) -> int:
        """The longest input in tokens."""
        truncation = self.tokenizer.truncation
        assert truncation is not None  # noqa: S101
        return int(truncation["max_length"])

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Turns texts into padded token ids and their mask, both int64 [texts, tokens]."""
        encodings = self.tokenizer.encode_batch([self.prompt + text for text in texts])
        ids = torch.tensor([e.ids for e in encodings], dtype=torch.int64)
        mask = torch.tensor([e.attention_mask for e in encodings], dtype=torch.int64)
        return ids, mask


def load_embedder(config: EmbedderConfig) -> TextEmbedder:
    """Loads the model that the configuration names.

    Raises:
        FileNotFoundError: there is no such directory.
        ModelFetchError: it could not be downloaded.
        UnsupportedModel: it asks for something that the embedder does not have, or has fewer
            dimensions than are to be kept.
    """
    directory = locate(config)
    layout, family = read_layout(directory), family_of(config.model)
    graph = graph_of(directory)
    encoder: SentenceEncoder | OnnxSentenceEncoder
    if graph is None:
        encoder, tokenizer = _in_torch(layout, family, config)
    else:
        encoder = OnnxSentenceEncoder(graph, _head(layout, family, config, "mean"))
        tokenizer = read_tokenizer(directory, layout, config.max_length or _MAX_LENGTH)
    _keep(encoder, config.dimension)
    return TextEmbedder(encoder, tokenizer, _prompts(layout, family, config), config)


def _in_torch(
    layout: Layout, family: Family | None, config: EmbedderConfig
) -> tuple[SentenceEncoder, Tokenizer]:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the pipeline shows its own
    settings = AutoConfig.from_pretrained(layout.transformer)
    backbone = AutoModel.from_pretrained(layout.transformer, dtype=torch.float32)
    if settings.is_encoder_decoder:
        backbone = backbone.get_encoder()
    else:
        backbone.config.use_cache = False  # the graph returns a vector, not keys and values
    encoder = SentenceEncoder(backbone, _head(layout, family, config, _default_pooling(settings)))
    tokenizer = _tokenizer(layout, settings, config.max_length)
    return encoder.eval().to(_device(config.device)), tokenizer


def _head(layout: Layout, family: Family | None, config: EmbedderConfig, pooling: Pooling) -> Head:
    known = family.pooling if family else pooling
    dense = [_dense(path) for path in layout.dense]
    return Head(config.pooling or layout.pooling or known, dense).eval()


def _keep(encoder: SentenceEncoder | OnnxSentenceEncoder, dimension: int | None) -> None:
    """Has the encoder keep so many dimensions; all where none is given."""
    if dimension is None:
        return
    token = torch.ones(1, 1, dtype=torch.int64, device=encoder.device)
    with torch.inference_mode():
        there = encoder(token, token).shape[-1]
    if not 0 < dimension <= there:
        raise UnsupportedModel(f"the embedder has {there} dimensions, {dimension} cannot be kept")
    encoder.head.dimension = dimension


def _prompts(layout: Layout, family: Family | None, config: EmbedderConfig) -> tuple[str, str]:
    """What goes before an item text, and before a query: as told, as the files say, or as is known
    of the family."""
    passages = (config.prompt, layout.prompt, family.passage if family else None, "")
    queries = (config.query_prompt, layout.query_prompt, family.query if family else None)
    passage = next(prompt for prompt in passages if prompt is not None)
    return passage, next((prompt for prompt in queries if prompt is not None), passage)


def _default_pooling(settings: PretrainedConfig) -> Pooling:
    """A causal decoder has read the whole text only at its last token."""
    causal = type(settings) in MODEL_FOR_CAUSAL_LM_MAPPING
    return "lasttoken" if causal and type(settings) not in MODEL_FOR_MASKED_LM_MAPPING else "mean"


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _tokenizer(layout: Layout, settings: PretrainedConfig, max_length: int | None) -> Tokenizer:
    slow_or_fast = AutoTokenizer.from_pretrained(layout.transformer)
    backend = getattr(slow_or_fast, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UnsupportedModel(
            f"{layout.transformer} has no fast tokenizer (tokenizer.json), which serving needs"
        )
    tokenizer = Tokenizer.from_str(backend.to_str())
    if layout.lowercase:
        steps = [normalizers.Lowercase(), *filter(None, [tokenizer.normalizer])]
        tokenizer.normalizer = normalizers.Sequence(steps)
    limit = min(
        getattr(settings, "max_position_embeddings", None) or _MAX_LENGTH,
        slow_or_fast.model_max_length,
        max_length or layout.max_length or _MAX_LENGTH,
    )
    tokenizer.enable_truncation(limit)
    # What stands in the padding is masked, so any token will do where there is none for it.
    tokenizer.enable_padding(direction="right", pad_id=slow_or_fast.pad_token_id or 0)
    return tokenizer


def _dense(directory: Path) -> nn.Module:
    """A linear layer and its activation, as sentence-transformers saves them."""
    settings = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    activation = str(settings.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    activations = {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU}
    if activation not in activations:
        raise UnsupportedModel(f"{directory} needs the activation {activation!r}")
    bias = bool(settings["bias"])
    linear = nn.Linear(settings["in_features"], settings["out_features"], bias=bias)
    weights = load_file(directory / "model.safetensors")
    linear.load_state_dict({key.removeprefix("linear."): w for key, w in weights.items()})
    return nn.Sequential(linear, activations[activation]())
