"""A made-up bundle that all three processes serve, with models of a few numbers."""

import shutil
from pathlib import Path

from core.bundle import Bundle, write_bundle
from tests.candidate.made_up import make_world
from tests.candidate.small_bundle import write_small_bundle
from tests.generator.made_up import level_texts, random_levels, write_made_up

ITEMS = 60
CODES = {"codes.txt", "code_tokens.npy", "generator_tokenizer.json"}
"""Both halves have them; those count that the generator was exported with."""


def write_whole_bundle(
    root: Path, version: str = "whole", *, items: int = ITEMS, seed: int = 0
) -> Path:
    """Joins the bundles that the tests of the candidate and of the generator have.

    Returns:
        The directory of its version.
    """
    halves = root / f"candidate-{version}", root / f"generator-{version}"
    for half in halves:
        half.mkdir()
    candidate = Bundle.open(write_small_bundle(halves[0], make_world(seed, items=items)))
    texts = level_texts(random_levels(items, (4, 5, 6), seed))
    generator = write_made_up(halves[1], texts).bundle
    sections = {"candidate": candidate.manifest.candidate, "version": version}
    manifest = generator.manifest.model_copy(update=sections)
    with write_bundle(root, manifest) as directory:
        for name in generator.manifest.files:
            shutil.copy(generator.file(name), directory / name)
        for name in candidate.manifest.files.keys() - CODES:
            shutil.copy(candidate.file(name), directory / name)
    return root / manifest.name / manifest.version
