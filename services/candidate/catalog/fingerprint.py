"""What the changes of a store are changes of: a bundle's catalog, known by its files' digests."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from core.bundle import Bundle

_ENCODER_FILES: Final = ("text_encoder.onnx", "text_tokenizer.json")
_CATALOG_FILES: Final = (
    "catalog.jsonl",
    "content_vectors.npy",
    "behavior_vectors.npy",
    "behavior_projection.npy",
    "codes.txt",
    "code_tokens.npy",
)


@dataclass(frozen=True)
class BundleFingerprint:
    """What changes are changes of: the catalog of a bundle, with its vectors and codes."""

    name: str
    version: str
    digest: str
    """Of all that the changes' vectors and codes depend on; versions may have it in common."""
    encoder: str
    """The digest of the text encoder alone."""

    @classmethod
    def of(cls, bundle: Bundle) -> "BundleFingerprint":
        """The base that a bundle is.

        Raises:
            BundleError: it lacks one of the files.
        """
        manifest = bundle.manifest
        return cls(
            manifest.name,
            manifest.version,
            _digest(bundle, *_CATALOG_FILES, *_ENCODER_FILES),
            _digest(bundle, *_ENCODER_FILES),
        )

    @classmethod
    def from_facts(
        cls, facts: Mapping[str, str], *, prefix: str = ""
    ) -> "BundleFingerprint | None":
        """Reads what `as_facts` wrote; None where it wrote nothing."""
        names = [field.name for field in fields(cls)]
        if any(prefix + name not in facts for name in names):
            return None
        return cls(**{name: facts[prefix + name] for name in names})

    def as_facts(self, *, prefix: str = "") -> dict[str, str]:
        """The same as texts by name, each name behind a prefix."""
        return {prefix + name: value for name, value in asdict(self).items()}


def _digest(bundle: Bundle, *names: str) -> str:
    files = bundle.manifest.files
    sums = (f"{name} {files[bundle.file(name).name].sha256}\n" for name in names)
    return hashlib.sha256("".join(sums).encode()).hexdigest()
