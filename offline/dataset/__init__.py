"""Interaction data: where it comes from and the one shape the offline stages know."""

from offline.dataset.errors import DataError, DataWarning
from offline.dataset.fetch import fetch
from offline.dataset.logs import LogsConfig, LogsReport, load_logs, read_logs
from offline.dataset.movielens import MovieLens, load_movielens
from offline.dataset.schema import Dataset, Holdout, Item
from offline.dataset.split import Split

__all__ = [
    "DataError",
    "DataWarning",
    "Dataset",
    "Holdout",
    "Item",
    "LogsConfig",
    "LogsReport",
    "MovieLens",
    "Split",
    "fetch",
    "load_logs",
    "load_movielens",
    "read_logs",
]
