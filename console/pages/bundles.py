"""Versions of the bundle: which one serves, what each reached, and how another comes to serve."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from console.pages.site import Site, Visit
from core.bundle import Bundle, versions
from core.errors import BundleError
from core.manifest import Manifest
from tandem.v1 import bundle_service_pb2 as pb

STATES: Mapping[int, str] = {
    pb.BUNDLE_STATE_SERVING: "serving",
    pb.BUNDLE_STATE_HELD: "held",
    pb.BUNDLE_STATE_AVAILABLE: "available",
}


class Shelf:
    """Bundles on this machine, whose manifests say how good they are.

    Args:
        root: the directory that they are in; None for none.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self.told = root is not None

    def manifests(self) -> dict[str, Manifest]:
        """Of each whole version, by its name; blocks."""
        found = {}
        for path in versions(self._root) if self._root else []:
            try:
                manifest = Bundle.open(path, verify=False).manifest
            except BundleError:
                continue
            found[f"{manifest.name}/{manifest.version}"] = manifest
        return found


@dataclass(frozen=True)
class Version:
    """A version, as it is shown."""

    bundle: str
    version: str
    state: str
    manifest: Manifest | None

    @property
    def reached(self) -> Sequence[Mapping[str, Any]]:
        """What the build measured on the test items, a row each."""
        rows = self.manifest.metrics.get("rows") if self.manifest else None
        known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        return [row for row in known if isinstance(row.get("ndcg@10"), int | float)]

    @property
    def best(self) -> float:
        """The largest NDCG@10 of them."""
        return max((row["ndcg@10"] for row in self.reached), default=0.0)


def routes(site: Site, shelf: Shelf) -> list[Route]:
    """The pages of the bundles."""

    async def page(visit: Visit) -> Response:
        return await listed(visit, shelf)

    return [
        site.route("/bundles", page),
        site.route("/bundles/change", confirm),
        site.route("/bundles/change", change, "POST"),
    ]


async def listed(visit: Visit, shelf: Shelf) -> Response:
    """All versions.

    Raises:
        CallFailedError: the gateway does not say.
    """
    answer = await visit.call("BundleService", "ListBundles", pb.ListBundlesRequest())
    manifests = await asyncio.to_thread(shelf.manifests)
    shown = [
        Version(each.bundle, name, STATES.get(each.state, ""), manifests.get(name))
        for each in answer.bundles
        for name in [each.bundle_version]
    ]
    best = max((version.best for version in shown), default=0.0)
    return visit.page("bundles.html", told=shelf.told, versions=shown, best=best)


async def confirm(visit: Visit) -> Response:
    """Asks whether it is meant."""
    query = visit.query
    return visit.page(
        "change_bundle.html",
        version=query.get("version", ""),
        bundle=query.get("bundle", ""),
        load=query.get("what") == "load",
    )


async def change(visit: Visit) -> Response:
    """Loads a version, or has it serve; it takes as long as that takes, within the longest wait."""
    given = await visit.form()
    names = {"bundle_version": given.get("version", ""), "bundle": given.get("bundle", "")}
    if given.get("what") == "load":
        await visit.call("BundleService", "LoadBundle", pb.LoadBundleRequest(**names))
    else:
        await visit.call("BundleService", "ActivateBundle", pb.ActivateBundleRequest(**names))
    return visit.go("/bundles")
