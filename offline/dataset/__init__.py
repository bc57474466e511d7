"""Interaction data: where it comes from and the one shape the offline stages know."""

from offline.dataset.errors import DataError, DataWarning
from offline.dataset.schema import Dataset, Holdout, Item, Split

__all__ = ["DataError", "DataWarning", "Dataset", "Holdout", "Item", "Split"]
