"""The stage `transitions`: what people went on to, counted in the training interactions."""

from pathlib import Path
from typing import Final

from offline.build.config import Settings
from offline.build.files import FACTS, write_json
from offline.build.stage import Earlier, Stage


def _make(_: Settings, earlier: Earlier, out: Path) -> None:
    import numpy as np

    from offline.baselines import WINDOW, transition_table
    from offline.dataset.schema import Dataset

    table = transition_table(Dataset.load(earlier["dataset"]))
    for name in ("indptr", "items", "weights"):
        np.save(out / f"transitions_{name}.npy", getattr(table, name), allow_pickle=False)
    write_json(out / FACTS, {"window": WINDOW, "decay": table.decay})


TRANSITIONS: Final = Stage(
    "transitions", settings=lambda _: Settings(), make=_make, needs=("dataset",)
)
