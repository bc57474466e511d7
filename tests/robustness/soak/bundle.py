"""The bundle of the soak: a small random T5, as exact to check as a trained one, and faster."""

from pathlib import Path
from typing import Final

from bench.lib.random_model import RandomModel
from core.catalog import Catalog, CatalogItem
from core.manifest import Precision
from tests.robustness.soak.catalog import LEVELS, Version
from tests.robustness.soak.requests import USERS

BEAMS: Final = 20
SHAPE: Final = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
PROMPTS: Final = "sequential; seen; {user} {history}; {target}\ndirect; seen; {user}; {target}\n"


def make_bundle(directory: Path, first: Version, precision: Precision) -> Path:
    """Exports a random T5 for a catalog, in one precision.

    Returns:
        The directory of the bundle.
    """
    model = RandomModel(
        name="soak",
        shape=SHAPE,
        widths=LEVELS,
        prompts=PROMPTS,
        prompt_tokens=64,
        beams=BEAMS,
        precisions=(precision,),
    )
    items = first.items.values()
    catalog = Catalog([CatalogItem(item.item_id, "", "", item.attributes, 0) for item in items])
    users = [f"u{n}" for n in range(USERS)]
    return model.export(directory, catalog, [item.code_text for item in items], users).bundle.path
