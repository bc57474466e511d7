"""Signing in with a key, and out again."""

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.calls.contract import rpc_named
from console.calls.failures import CallFailedError
from console.calls.headers import with_key
from console.pages.session import MAX_KEY
from console.pages.site import Site, Visit
from tandem.errors import Unauthenticated
from tandem.v1.catalog_service_pb2 import GetItemsRequest


def routes(site: Site) -> list[Route]:
    """The pages of it."""
    return [
        site.route("/sign-in", form),
        site.route("/sign-in", sign_in, "POST"),
        site.route("/sign-out", sign_out, "POST"),
    ]


async def form(visit: Visit) -> Response:
    """Asks for a key."""
    return visit.page("sign_in.html", failure=None, to=_inside(visit.query.get("to", "/")))


async def sign_in(visit: Visit) -> Response:
    """Remembers a key that the gateway knows."""
    given = await visit.form()
    key, to = given.get("key", "").strip(), _inside(given.get("to", "/"))
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise ValueError(f"a key has from 1 to {MAX_KEY} characters of ASCII")
    try:
        # What it may do shows page by page; here it only has to be somebody's.
        await visit.site.upstreams.call(
            rpc_named("RecommendationService", "GetItems"),
            GetItemsRequest(item_ids=["?"]),
            with_key(key),
        )
    except CallFailedError as failure:
        if isinstance(failure.error, Unauthenticated):
            return visit.page("sign_in.html", 401, failure=failure, to=to)
        if failure.http_status != 403:
            raise
    response: RedirectResponse = visit.go(to)
    visit.site.sessions.begin(response, key)
    return response


async def sign_out(visit: Visit) -> Response:
    """Forgets the key."""
    response: RedirectResponse = visit.go("/")
    visit.site.sessions.end(response)
    return response


def _inside(to: str) -> str:
    """A page of the console; the first where it would lead elsewhere."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"
