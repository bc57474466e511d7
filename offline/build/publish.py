"""The parts of a build that are needed even when every stage is built already.

Apart from `offline.build.steps`, which takes many seconds to import.
"""

import json
from pathlib import Path
from typing import Any, Final

from core.bundle import MANIFEST, point
from core.manifest import StoreSection
from offline.build.drafts import draft, reissue

PROMPTS: Final = Path(__file__).parents[1] / "generator" / "prompts.txt"
"""Tandem's own prompts."""


def prompt_text(path: Path | None) -> str:
    """The prompt file that a build uses."""
    return (path or PROMPTS).read_text(encoding="utf-8")


def publish(
    evaluated: Path, version: str, bundles: Path, store: StoreSection | None = None
) -> Path:
    """The finished bundle, made `current`.

    Args:
        evaluated: what the last stage made.
        version: of the bundle; nothing is written where there is one already.
        bundles: where bundles are kept.
        store: what the build took in of the live catalog.
    """
    bundle = draft(evaluated)
    published = bundles / bundle.manifest.name / version
    if not (published / MANIFEST).exists():
        metrics = read_json(evaluated / "metrics.json")
        facts = {"version": version, "metrics": metrics, "store": store}
        manifest = bundle.manifest.model_copy(update=facts)
        reissue(bundle, manifest, bundles)
    point(published.parent / "current", version)
    return published


def write_json(path: Path, value: object) -> None:
    """Writes JSON for people and for the next stage."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
