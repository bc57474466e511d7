"""What the text families are asked when a bundle is evaluated, in a file of the bundle.

A bundle holds the histories of its users, the held-out items among them, and in the same way these
held-out texts: a sample of them, for they are for `tandem evaluate` alone, and no service reads
them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from offline.reviews.examples import TextExample, TextFamily, Written
from offline.reviews.parts import Part

FILE: Final = "held_out_texts.json"
MOST: Final = 2000
"""Examples of a family and a part."""


@dataclass(frozen=True)
class HeldOut:
    """What a family is asked, and what a constant answer is chosen from."""

    validation: Sequence[TextExample]
    test: Sequence[TextExample]
    constants: Sequence[str]
    """Training texts that are near to many others."""


def sample(written: Written, family: TextFamily, part: Part, seed: int = 0) -> list[TextExample]:
    """At most `MOST` examples, in their order."""
    examples = written.examples(family, part)
    rng = np.random.default_rng(seed)
    picked = np.sort(rng.permutation(len(examples))[:MOST])
    return [examples[i] for i in picked]


def write_held_out(families: Mapping[TextFamily, HeldOut], directory: Path) -> None:
    """Writes them into a directory."""
    content = {
        name: {
            "validation": [_row(example) for example in held.validation],
            "test": [_row(example) for example in held.test],
            "constants": list(held.constants),
        }
        for name, held in families.items()
    }
    (directory / FILE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_held_out(path: Path, family: TextFamily) -> HeldOut | None:
    """Reads what `write_held_out` wrote; None where the family is not among it."""
    content = json.loads(path.read_text(encoding="utf-8")).get(family)
    if content is None:
        return None
    parts = {part: [_example(row) for row in content[part]] for part in ("validation", "test")}
    return HeldOut(**parts, constants=content["constants"])


def _row(example: TextExample) -> dict[str, object]:
    return {
        "user": example.user,
        "item": example.item,
        "history": example.history.tolist(),
        "feature": example.feature,
        "text": example.text,
        "target": example.target,
    }


def _example(row: dict[str, object]) -> TextExample:
    history = np.array(row.pop("history"), dtype=np.int32)
    return TextExample(**row, history=history)  # type: ignore[arg-type]
