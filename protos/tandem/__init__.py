"""Client and contract of Tandem, gRPC serving for generative recommendation."""

from tandem import filters
from tandem.bundles import BundleClient
from tandem.catalog import AsyncCatalogClient, CatalogClient, Item
from tandem.client import AsyncClient, Client
from tandem.credentials import key_file, tls_credentials
from tandem.errors import (
    DeadlineExceeded,
    Error,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
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
    "key_file",
    "tls_credentials",
    "filters",
    "Error",
    "InvalidArgument",
    "NotFound",
    "FailedPrecondition",
    "Unauthenticated",
    "PermissionDenied",
    "ResourceExhausted",
    "DeadlineExceeded",
    "Unavailable",
    "Internal",
]
