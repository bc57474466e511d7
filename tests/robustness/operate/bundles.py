"""What is soaked: versions of a bundle in a directory of their own."""

from pathlib import Path
from typing import Final

from bench.operate.swaps import copies
from tests.pipeline.whole_bundle import write_whole_bundle

ITEMS: Final = 60
VERSIONS: Final = ("1", "2", "3")


def versions(bundle: Path | None, root: Path) -> list[Path]:
    """Three versions, of which the first is to serve at the start.

    Args:
        bundle: that is copied three times; None to make up three that differ, with models of a few
            numbers.
        root: where they are put.
    """
    if bundle is not None:
        first = copies(bundle, root)
        return [first.with_name(version) for version in "abc"]
    return [
        write_whole_bundle(root, version, items=ITEMS + seed, seed=seed)
        for seed, version in enumerate(VERSIONS)
    ]
