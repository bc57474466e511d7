"""A shortlist, and what it is made from."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray


class Basis(Enum):
    """What a shortlist was made from."""

    HISTORY = "history"
    CONTENT = "content"
    POPULARITY = "popularity"


@dataclass(frozen=True)
class Shortlist:
    """Items to recommend from, best first."""

    items: ItemArray
    scores: NDArray[np.float64]
    basis: Basis
    transitions: NDArray[np.float64] | None = None
    """The transitions' own scores, where the basis is the history."""


@dataclass(frozen=True)
class SourceWeights:
    """How much each source counts in the retrieval score; chosen on validation."""

    behavior: float
    transitions: float
    content: float = 0.0
    popularity: float = 0.0
