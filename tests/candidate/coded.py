"""Codes of two levels for the made-up world, and what places new items in it."""

from pathlib import Path

import numpy as np

from core.codes import CodeFormat, ItemCodes
from services.candidate.catalog.code_allocator import CodeAllocator
from services.candidate.catalog.cold_start import ColdStartPlacer
from services.candidate.catalog.store import ItemStore
from services.candidate.catalog.transaction import CatalogWriter
from tests.candidate.small_bundle import CODES, PROJECTION, code_text, code_tokenizer


def item_codes(rows: np.ndarray, texts: list[str] | None = None) -> ItemCodes:
    rows = rows.astype(np.int32)
    texts = [code_text(row) for row in rows.tolist()] if texts is None else texts
    return ItemCodes(texts, rows, CodeFormat.of(rows, vocabulary=1_000, eos=1, pad=0))


OLD_CODES = item_codes(CODES[:30])
"""Of the items of the made-up world."""


def make_allocator() -> CodeAllocator:
    return CodeAllocator(OLD_CODES, code_tokenizer())


def make_placer() -> ColdStartPlacer:
    return ColdStartPlacer(OLD_CODES, make_allocator(), PROJECTION)


def make_writer(path: Path) -> CatalogWriter:
    return CatalogWriter(make_placer(), ItemStore.open(path))
