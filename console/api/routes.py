"""Which method and path of REST stands for which RPC."""

from dataclasses import dataclass
from typing import Final

from console.calls.contract import Rpc, rpc_named


@dataclass(frozen=True)
class RestRoute:
    """A way to make a call by REST."""

    method: str
    """Of HTTP."""
    path: str
    """Whose parts in braces are fields of the request. Identifiers may have slashes."""
    rpc: Rpc
    summary: str
    repeated: str = ""
    """The part in braces that is one element of a list."""

    @property
    def has_body(self) -> bool:
        """Whether the request is a JSON body; else its fields are parameters of the query."""
        return self.method == "POST"


def _route(method: str, path: str, service: str, rpc: str, summary: str) -> RestRoute:
    repeated = "item_ids" if "{item_ids" in path else ""
    return RestRoute(method, path, rpc_named(service, rpc), summary, repeated)


_GATEWAY: Final = "RecommendationService"
ROUTES: Final = (
    _route("POST", "/v1/recommendations", _GATEWAY, "Recommend", "Recommend items to a user."),
    _route(
        "GET",
        "/v1/users/{user_id:path}/recommendations",
        _GATEWAY,
        "Recommend",
        "Recommend items to a user, with plain parameters.",
    ),
    _route("GET", "/v1/users/{user_id:path}/history", _GATEWAY, "GetHistory", "A user's history."),
    _route(
        "GET",
        "/v1/users/{user_id:path}/export",
        _GATEWAY,
        "ExportUser",
        "All that is stored about a user, one JSON object a line.",
    ),
    _route(
        "DELETE",
        "/v1/users/{user_id:path}",
        _GATEWAY,
        "DeleteUser",
        "Delete all that is stored about a user.",
    ),
    _route("POST", "/v1/users:merge", _GATEWAY, "MergeUsers", "Make one user's events another's."),
    _route("POST", "/v1/events", _GATEWAY, "RecordEvents", "Record what users did."),
    _route("POST", "/v1/similar-items", _GATEWAY, "SimilarItems", "Similar items."),
    _route("POST", "/v1/ratings:predict", _GATEWAY, "PredictRatings", "How items will be rated."),
    _route("GET", "/v1/items", "CatalogService", "ListItems", "The catalog, page by page."),
    _route("POST", "/v1/items", "CatalogService", "UpsertItems", "Add or replace items."),
    _route("GET", "/v1/items/{item_ids:path}", _GATEWAY, "GetItems", "Look an item up."),
    _route(
        "DELETE", "/v1/items/{item_ids:path}", "CatalogService", "DeleteItems", "Remove an item."
    ),
    _route("GET", "/v1/bundles", "BundleService", "ListBundles", "Versions of the bundle."),
    _route(
        "POST",
        "/v1/bundles:load",
        "BundleService",
        "LoadBundle",
        "Load a version beside the one that serves.",
    ),
    _route(
        "POST", "/v1/bundles:activate", "BundleService", "ActivateBundle", "Have a version serve."
    ),
)
"""Every path of REST; the other RPCs are called by Connect. In the order in which they match."""
