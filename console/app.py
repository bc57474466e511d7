"""The console's routes, and what answers them."""

from collections.abc import Collection
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from console.api.connect import ConnectApi
from console.api.openapi import document
from console.api.rest import rest_routes
from console.calls.contract import RPCS
from console.calls.upstreams import Upstreams
from console.limits import LOOPBACK, Limits
from console.pages import (
    beam,
    bundles,
    catalog,
    interface,
    load,
    recommend,
    signing,
    similar,
)
from console.pages.bundles import Shelf
from console.pages.load import Watch
from console.pages.session import Sessions, read_secret
from console.pages.site import Site
from console.settings import ConsoleSettings, addresses_in
from serving.security.guard import is_loopback

HOUR: Final = 3600.0


def application(settings: ConsoleSettings, upstreams: Upstreams) -> Limits:
    """What the process serves, with its bounds."""
    secret = read_secret(settings.session_key_file) if settings.session_key_file else None
    sessions = Sessions(
        secret, settings.session_hours * HOUR, secure=settings.tls_certificate is not None
    )
    site = Site(upstreams, sessions)
    connect = ConnectApi(upstreams, settings.max_body_bytes)
    routes: list[BaseRoute] = [
        Route("/healthz", _healthy),
        Route("/openapi.json", _openapi),
        Mount("/static", StaticFiles(packages=[("console", "static")])),
        *(Route(path, connect, methods=["POST"]) for path in RPCS),
        *rest_routes(upstreams),
        *_pages(site, Shelf(settings.bundles), Watch(addresses_in(settings.metrics))),
    ]
    return Limits(
        Starlette(routes=routes),
        max_bytes=settings.max_body_bytes,
        max_requests=settings.max_concurrent_requests,
        body_seconds=settings.max_call_seconds,
        hosts=_hosts(settings),
    )


def _pages(site: Site, shelf: Shelf, watch: Watch) -> list[Route]:
    return [
        site.route("/", recommend.recommend),
        site.route("/beam", beam.beam),
        site.route("/similar", similar.similar),
        site.route("/api", interface.interface),
        *catalog.routes(site),
        *bundles.routes(site, shelf),
        *load.routes(site, watch),
        *signing.routes(site),
    ]


def _hosts(settings: ConsoleSettings) -> Collection[str]:
    named = [host.lower() for host in addresses_in(settings.hosts)]
    if named:
        return named
    return LOOPBACK if is_loopback(settings.host) else ()


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("serving\n")


async def _openapi(_: Request) -> Response:
    return JSONResponse(document())
