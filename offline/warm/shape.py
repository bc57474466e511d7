"""Whether a build makes models of the shape that a bundle has."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from core.bundle import Bundle
from core.errors import BundleError
from core.manifest import Manifest
from offline.build.config import BuildConfig, WarmStart

SHAPE: Final = (
    "query_encoder.dimension",
    "query_encoder.layers",
    "query_encoder.heads",
    "generator.preset",
    "generator.checkpoint",
    "codes.style",
    "codes.levels",
)
"""The settings that say which parameters there are, and what they are multiplied with."""


def warm_start(path: Path, config: BuildConfig) -> WarmStart:
    """A bundle to start from.

    Args:
        path: of the bundle, every file of which is checked.
        config: of the build that is to start from it.

    Raises:
        BundleError: the bundle is not whole, or its models have another shape.
    """
    bundle = Bundle.open(path)
    _require_same_shape(bundle.manifest, config)
    files = bundle.manifest.model_dump(mode="json")["files"]
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return WarmStart(bundle=bundle.path, version=bundle.version, files=digest)


def _require_same_shape(manifest: Manifest, config: BuildConfig) -> None:
    before, now = manifest.provenance.config, config.model_dump(mode="json")
    pairs = {name: (_at(before, name), _at(now, name)) for name in SHAPE}
    inputs = "items" if config.reads_items else "tokens"
    backbone = _at(before, "generator.backbone") or "t5"  # that of bundles which do not name one
    pairs["generator.backbone"] = backbone, config.generator.backbone
    pairs["generator.inputs"] = manifest.generator.inputs, inputs
    differing = [f"{name} {a} there, {b} here" for name, (a, b) in pairs.items() if a != b]
    if differing:
        raise BundleError(
            f"{manifest.name}/{manifest.version} has models of another shape: "
            f"{'; '.join(differing)}. Build with its settings, or without --warm-from"
        )


def _at(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
