"""Texts for items that have none, from what is learned from of their reviews.

An item that goes by its id alone says nothing to an embedder, and what users wrote of it says what
it is. Only training texts are taken: what is asked about later, by any family, is not given away.
"""

import dataclasses
import warnings
from collections import defaultdict
from typing import Final

import numpy as np

from offline.dataset.errors import DataWarning
from offline.dataset.schema import Dataset, Item
from offline.reviews.parts import Part, parts_of

LONGEST: Final = 400
"""Characters of a made text: some ten summaries. Reading more takes an embedder longer."""


def described(data: Dataset) -> Dataset:
    """The dataset, with a text for each item that goes by its id.

    The text is the summaries of its training interactions, the newest first, and then the reviews;
    the title stays the id. How many items got one is a `DataWarning`.
    """
    if data.reviews is None:
        return data
    bare = {index for index, item in enumerate(data.items) if item.text == item.item_id}
    written = _written(data, bare)
    items = tuple(_with_text(item, written.get(i, ())) for i, item in enumerate(data.items))
    if written:
        problem = f"{len(written):,} of {len(items):,} items described by their training reviews"
        warnings.warn(problem, DataWarning, stacklevel=2)
    return dataclasses.replace(data, items=items)


def _written(data: Dataset, bare: set[int]) -> dict[int, list[str]]:
    """The training summaries and then the training reviews of each of some items."""
    assert data.reviews is not None  # noqa: S101 - the caller looked
    training = np.flatnonzero(parts_of(data) == Part.TRAINING)
    newest = training[np.argsort(-data.timestamps[training], kind="stable")]
    found: dict[int, list[str]] = defaultdict(list)
    for texts in (data.reviews.summaries, data.reviews.texts):
        for row in newest:
            if int(data.item_index[row]) in bare and texts[row]:
                found[int(data.item_index[row])].append(texts[row])
    return dict(found)


def _with_text(item: Item, written: list[str] | tuple[()]) -> Item:
    if not written:
        return item
    text = ". ".join(part.rstrip(".") for part in written)
    return dataclasses.replace(item, text=text[:LONGEST])
