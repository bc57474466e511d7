"""Codes of two levels for the made-up world, and what places new items in it."""

from pathlib import Path

import numpy as np

from services.candidate.catalog.coding import Coding
from services.candidate.catalog.placement import Placement
from services.candidate.catalog.store import ItemStore
from services.candidate.catalog.writing import Writer
from tests.candidate.small_bundle import CODES, PROJECTION, code_text, code_tokenizer


def make_coding(codes: np.ndarray = CODES[:30]) -> Coding:
    texts = [code_text(row) for row in codes.tolist()]
    return Coding(texts, codes.astype(np.int32), code_tokenizer(), (1, 0))


def make_placement() -> Placement:
    return Placement(make_coding(), PROJECTION)


def make_writer(path: Path) -> Writer:
    return Writer(make_placement(), ItemStore.open(path))
