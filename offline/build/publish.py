"""Publishing: the bundle gets its version, and says how it was made."""

import datetime as dt
import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Final

from core.bundle import MANIFEST, Bundle, point
from core.manifest import Manifest, Provenance
from offline.build.code import library_versions
from offline.build.drafts import open_draft, reissue
from offline.build.files import read_json
from offline.build.stage import BuildRequest
from offline.dataset.generated import GENERATED_TEXT

_ABOUT: Final = frozenset({"version", "provenance", "metrics"})
"""What a manifest says about a bundle, and no service reads."""


def publish(evaluated: Path, request: BuildRequest, bundles: Path) -> Path:
    """Writes the finished bundle, unless it is there, and makes it `current`.

    Args:
        evaluated: what the last stage made.
        request: what was built.
        bundles: where bundles are kept.
    """
    draft = open_draft(evaluated)
    finished = draft.manifest.model_copy(update={"store": request.source.store})
    version = content_version(finished)
    published = bundles / finished.name / version
    if not (published / MANIFEST).exists():
        facts = {
            "version": version,
            "metrics": read_json(evaluated / "metrics.json"),
            "provenance": _provenance(draft, request),
        }
        reissue(draft, finished.model_copy(update=facts), bundles)
    point(published.parent / "current", version)
    return published


def content_version(manifest: Manifest) -> str:
    """A version that names what is served: the files, and what the services are told about them.

    Equal contents have equal versions, whenever and wherever they were built.
    """
    content = manifest.model_dump(mode="json", exclude=set(_ABOUT))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _provenance(draft: Bundle, request: BuildRequest) -> Provenance:
    marked = sum(GENERATED_TEXT in item.attributes for item in draft.catalog.items)
    return Provenance(
        dataset=draft.manifest.provenance.dataset,
        seed=request.config.seed,
        config=request.config.model_dump(mode="json"),
        git_revision=git_revision(),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        libraries={"python": platform.python_version(), **library_versions()},
        warm_from=None if request.warm is None else request.warm.version,
        generated_text=round(marked / len(draft.catalog), 4) if marked else None,
    )


def git_revision() -> str:
    """The revision of the code, or `unknown` outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed arguments
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
