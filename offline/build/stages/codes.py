"""The stage `codes`: the sequence of tokens that stands for each item."""

from pathlib import Path
from typing import Final

from offline.build.config import CodesSection, Settings
from offline.build.stage import BuildRequest, Earlier, Stage
from offline.codes.code import CodeKind

VECTORS: Final[dict[CodeKind, tuple[str, str]]] = {
    "semantic": ("embeddings", "content_vectors.npy"),
    "behavior": ("query-encoder", "behavior_vectors.npy"),
}
"""The stage and the file of the vectors that codes of a kind are made from; others need none."""


class CodesSettings(Settings):
    """How items get their codes."""

    section: CodesSection
    seed: int


def _settings(request: BuildRequest) -> CodesSettings:
    return CodesSettings(section=request.config.codes, seed=request.config.seed)


def _needs(settings: CodesSettings) -> tuple[str, ...]:
    kind = settings.section.kind
    return ("dataset", VECTORS[kind][0]) if kind in VECTORS else ("dataset",)


def _make(settings: CodesSettings, earlier: Earlier, out: Path) -> None:
    import numpy as np

    from core.codes import write_code_texts
    from offline.codes import CodesConfig, assign
    from offline.dataset.schema import Dataset

    section, vectors = settings.section, None
    if section.kind in VECTORS:
        stage, file = VECTORS[section.kind]
        vectors = np.load(earlier[stage] / file, allow_pickle=False)
    levels = 1 if section.style == "text" else section.levels
    config = CodesConfig(levels=levels, seed=settings.seed)
    codes = assign(section.kind, Dataset.load(earlier["dataset"]), vectors, config)
    texts = codes.texts()
    if section.style == "text":
        texts = [f"item_{number}" for number in codes.levels[:, 0].tolist()]
    write_code_texts(out / "codes.txt", texts)


CODES: Final = Stage("codes", settings=_settings, make=_make, needs=_needs)
