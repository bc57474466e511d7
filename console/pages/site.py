"""What all pages have: calls with the key of whoever looks, templates, and failures as pages."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl

from google.protobuf.message import Message
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from console.calls.contract import Process, rpc_named
from console.calls.failures import CallFailedError, refused
from console.calls.headers import with_key
from console.calls.upstreams import Upstreams
from console.pages import rendering
from console.pages.session import Sessions, is_same_site
from core.errors import InvalidArgument, PermissionDenied
from serving.telemetry.request_id import REQUEST_ID_HEADER
from tandem.v1 import common_pb2
from tandem.v1.catalog_service_pb2 import GetItemsRequest

MAX_FIELDS: Final = 200
"""Of a form."""
MAX_LOOKED_UP: Final = 1_000
STATIC: Final = files("console") / "static"

View = Callable[["Visit"], Awaitable[Response]]
Items = dict[str, common_pb2.Item]


@dataclass(frozen=True)
class Site:
    """What pages are made with."""

    upstreams: Upstreams
    sessions: Sessions
    environment: Environment = field(default_factory=lambda: make_environment())

    def route(self, path: str, view: View, *methods: str) -> Route:
        """A page at a path; what changes something comes by POST, and from this site alone."""

        async def answer(request: Request) -> Response:
            visit = Visit(self, request)
            try:
                _check_origin(request)
                return await view(visit)
            except CallFailedError as failure:
                return visit.failed(failure)
            except (InvalidArgument, PermissionDenied) as error:
                return visit.failed(refused(error))
            except ValueError as error:
                return visit.failed(refused(InvalidArgument(str(error), reason="MALFORMED_FIELD")))

        return Route(path, answer, methods=list(methods) or ["GET"])


def _check_origin(request: Request) -> None:
    if request.method == "POST" and not is_same_site(request):
        raise PermissionDenied("this was sent from another site's page", reason="OTHER_SITE")


def make_environment() -> Environment:
    """What templates are filled by: every value is escaped, and one that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("console"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(rendering.FILTERS)
    return environment


class Visit:
    """One look at a page."""

    def __init__(self, site: Site, request: Request) -> None:
        self.site = site
        self.request = request
        self.key = site.sessions.key_of(request)

    @property
    def query(self) -> QueryParams:
        """What the address asks."""
        return self.request.query_params

    def reaches(self, process: Process) -> bool:
        """Whether the console knows the address of a process."""
        return self.site.upstreams.reaches(process)

    async def call(self, service: str, rpc: str, message: Message) -> Any:
        """Makes a call as whoever looks.

        Raises:
            CallFailedError: it was not answered.
        """
        passed = {REQUEST_ID_HEADER: self.request.headers.get(REQUEST_ID_HEADER, "")}
        headers = {**passed, **with_key(self.key)}
        return await self.site.upstreams.call(rpc_named(service, rpc), message, headers)

    async def attempt(self, service: str, rpc: str, message: Message) -> "Attempt":
        """The same for what a page can do without."""
        try:
            return Attempt(await self.call(service, rpc, message))
        except CallFailedError as failure:
            return Attempt(failure=failure)

    async def items(self, item_ids: Iterable[str]) -> Items:
        """What the catalog says of items, as far as it may be known."""
        wanted: Sequence[str] = list(dict.fromkeys(filter(None, item_ids)))[:MAX_LOOKED_UP]
        if not wanted:
            return {}
        found = await self.attempt(
            "RecommendationService", "GetItems", GetItemsRequest(item_ids=wanted)
        )
        return {item.item_id: item for item in found.answer.items} if found.answer else {}

    async def form(self) -> dict[str, str]:
        """The fields of a form that was sent.

        Raises:
            ValueError: they are none, or too many.
        """
        body = (await self.request.body()).decode()
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page, filled."""
        text = self.site.environment.get_template(template).render(
            signed_in=bool(self.key), path=self.request.url.path, query=self.query, **values
        )
        return HTMLResponse(text, status, headers={"cache-control": "no-store"})

    def failed(self, failure: CallFailedError) -> HTMLResponse:
        """A page that says what was wrong, and what to do."""
        return self.page("failed.html", failure.http_status, failure=failure)

    def go(self, to: str) -> RedirectResponse:
        """On to a page of the console, after something was changed."""
        return RedirectResponse(to, status_code=303)


@dataclass(frozen=True)
class Attempt:
    """A call's answer, or how it failed."""

    answer: Any = None
    failure: CallFailedError | None = None
