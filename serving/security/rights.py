"""Which right each RPC needs.

An RPC that is not in the table is refused, and a test compares the table with the descriptors. Add
one by a line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Right(StrEnum):
    """What a caller may be allowed to do."""

    RECOMMEND = "recommend"
    """Ask for recommendations."""
    SIMILAR = "similar"
    """Ask for similar items."""
    EVENTS = "events"
    """Record what users do."""
    HISTORY = "history"
    """Read what a user did."""
    CATALOG = "catalog"
    """Read and change the catalog, at the candidate service."""
    ADMIN = "admin"
    """Look into a server: reflection, health in detail, channels; and change what it serves."""
    DELETE_USER = "delete-user"
    """Delete all that is stored about a user."""
    INTERNAL = "internal"
    """Call a service as the gateway and the generator do."""


PROTECTED: Final = frozenset({Right.HISTORY, Right.CATALOG, Right.ADMIN, Right.DELETE_USER})
"""Rights that nobody has off the loopback without credentials, whatever the settings say."""


@dataclass(frozen=True)
class Rule:
    """What an RPC needs."""

    rights: frozenset[Right]
    """Any one of these; none where everybody may call it."""
    changes: str = ""
    """The field of its request that says what is changed, for the audit log; empty where it changes
    nothing."""
    routine: bool = False
    """Whether changes come in masses, and are logged at level `debug`."""

    @property
    def protected(self) -> bool:
        """Whether it needs credentials off the loopback."""
        return not PROTECTED.isdisjoint(self.rights)


def _any(*rights: Right, changes: str = "", routine: bool = False) -> Rule:
    return Rule(frozenset(rights), changes, routine)


_OPEN: Final = _any()
_ADMIN: Final = _any(Right.ADMIN)
_INTERNAL: Final = _any(Right.INTERNAL)
_SERVICES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "tandem.v1.RecommendationService": {
        "Recommend": _any(Right.RECOMMEND),
        "BatchRecommend": _any(Right.RECOMMEND),
        "RecommendRows": _any(Right.RECOMMEND),
        "Explain": _any(Right.RECOMMEND),
        "Summarize": _any(Right.RECOMMEND),
        "SimilarItems": _any(Right.SIMILAR),
        "GetItems": _any(Right.RECOMMEND, Right.SIMILAR),
        "PredictRatings": _any(Right.RECOMMEND),
        "RecordEvents": _any(Right.EVENTS, changes="events", routine=True),
        "GetHistory": _any(Right.HISTORY),
        "DeleteUser": _any(Right.DELETE_USER, changes="user_id"),
        "ExportUser": _any(Right.HISTORY),
        # It deletes the user whose events it moves.
        "MergeUsers": _any(Right.DELETE_USER, changes="source_user_id"),
    },
    "tandem.v1.CandidateService": {
        "Search": _INTERNAL,
        "Similar": _INTERNAL,
        "DiagnoseSearch": _INTERNAL,
    },
    "tandem.v1.CatalogService": {
        "UpsertItems": _any(Right.CATALOG, changes="items"),
        "DeleteItems": _any(Right.CATALOG, changes="item_ids"),
        "GetItems": _any(Right.CATALOG, Right.INTERNAL),
        "ListItems": _any(Right.CATALOG),
        "WatchItems": _any(Right.CATALOG, Right.INTERNAL),
    },
    "tandem.v1.GeneratorService": {
        "Rerank": _INTERNAL,
        "Generate": _INTERNAL,
        "Rank": _INTERNAL,
        "DiagnoseItems": _INTERNAL,
        "Explain": _INTERNAL,
        "Summarize": _INTERNAL,
        "PredictRatings": _INTERNAL,
    },
    # A gateway asks the services behind it for what it was asked to do.
    "tandem.v1.BundleService": {
        "ListBundles": _ADMIN,
        "LoadBundle": _any(Right.ADMIN, Right.INTERNAL, changes="bundle_version"),
        "ActivateBundle": _any(Right.ADMIN, Right.INTERNAL, changes="bundle_version"),
    },
    # Orchestrators and gRPC's own health checks send no credentials.
    "grpc.health.v1.Health": {"Check": _OPEN, "Watch": _OPEN, "List": _ADMIN},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": _ADMIN},
    "grpc.channelz.v1.Channelz": {
        "GetTopChannels": _ADMIN,
        "GetServers": _ADMIN,
        "GetServer": _ADMIN,
        "GetServerSockets": _ADMIN,
        "GetChannel": _ADMIN,
        "GetSubchannel": _ADMIN,
        "GetSocket": _ADMIN,
    },
}
RULES: Final[Mapping[str, Rule]] = {
    f"/{service}/{rpc}": rule for service, rpcs in _SERVICES.items() for rpc, rule in rpcs.items()
}
"""The rule of each RPC, by its path."""
