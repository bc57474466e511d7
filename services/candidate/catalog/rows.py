"""A change of the catalog as a row of the store's one table, and back."""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.catalog import CatalogItem, Delete
from core.codes import ItemCode
from services.candidate.changes import PlacedChange, PlacedItem
from services.candidate.index.flat import Vector

TABLE: Final = """
CREATE TABLE IF NOT EXISTS changes (
    sequence INTEGER PRIMARY KEY,
    item_id TEXT NOT NULL UNIQUE,
    item TEXT,      -- as JSON; NULL, as all that follows, where the item is deleted
    content BLOB,   -- float32, little-endian
    behavior BLOB,
    code_text TEXT,
    tokens TEXT     -- a JSON list
);
"""


@dataclass(frozen=True)
class StoredChange:
    """A change as it is in the store."""

    sequence: int
    change: PlacedChange


def write_row(sequence: int, change: PlacedChange) -> tuple[Any, ...]:
    """Writes what `read_row` reads: the columns of the table, in order."""
    if isinstance(change, Delete):
        return (sequence, change.item_id, None, None, None, None, None)
    item = {
        "title": change.item.title,
        "text": change.item.text,
        "attributes": change.item.attributes,
        "popularity": change.item.popularity,
    }
    return (
        sequence,
        change.item_id,
        json.dumps(item, ensure_ascii=False),
        change.content.astype("<f4").tobytes(),
        change.behavior.astype("<f4").tobytes(),
        change.code.text,
        json.dumps(change.code.tokens),
    )


def read_row(row: tuple[Any, ...]) -> StoredChange:
    """Reads a change."""
    sequence, item_id, text, content, behavior, code_text, tokens = row
    if text is None:
        return StoredChange(sequence, Delete(item_id))
    item, code = read_item(item_id, text), ItemCode(code_text, tuple(json.loads(tokens)))
    return StoredChange(sequence, PlacedItem(item, _vector(content), _vector(behavior), code))


def read_item(item_id: str, text: str) -> CatalogItem:
    """Reads the column of the item."""
    fields = json.loads(text)
    attributes = {name: tuple(values) for name, values in fields["attributes"].items()}
    return CatalogItem(item_id, fields["title"], fields["text"], attributes, fields["popularity"])


def _vector(blob: bytes) -> Vector:
    return np.frombuffer(blob, "<f4").astype(np.float32)
