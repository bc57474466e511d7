"""Client and contract of Tandem, gRPC serving for generative recommendation."""

from tandem import filters
from tandem.bundles import BundleClient
from tandem.catalog import AsyncCatalogClient, CatalogClient, Item
from tandem.client import AsyncClient, Client
from tandem.errors import (
    DeadlineExceeded,
    Error,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from tandem.histories import event

__all__ = [
    "AsyncClient",
    "Client",
    "BundleClient",
    "AsyncCatalogClient",
    "CatalogClient",
    "Item",
    "event",
    "filters",
    "Error",
    "InvalidArgument",
    "NotFound",
    "FailedPrecondition",
    "ResourceExhausted",
    "DeadlineExceeded",
    "Unavailable",
    "Internal",
]
