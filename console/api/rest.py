"""REST: the contract's messages as JSON, errors by HTTP's status and as AIP-193 has them."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from console.api.routes import ROUTES, RestRoute
from console.calls.contract import descriptor_of
from console.calls.failures import CallFailedError, refused
from console.calls.upstreams import Upstreams
from core.errors import InvalidArgument

TIMEOUT: Final = "connect-timeout-ms"
"""The header that says how long a call may take, as Connect names it."""


def rest_routes(upstreams: Upstreams) -> list[Route]:
    """A route for each of `ROUTES`."""
    return [
        Route(route.path, _endpoint(route, upstreams), methods=[route.method]) for route in ROUTES
    ]


def _endpoint(route: RestRoute, upstreams: Upstreams) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        headers = request.headers
        try:
            message = await _message(route, request)
            seconds = _seconds(headers)
            if route.rpc.streams:
                return await _lines(upstreams.stream(route.rpc, message, headers, seconds))
            said = await upstreams.call(route.rpc, message, headers, seconds)
        except InvalidArgument as error:
            return error_response(refused(error))
        except CallFailedError as failure:
            return error_response(failure)
        return JSONResponse(MessageToDict(said))

    return answer


def error_response(failure: CallFailedError) -> JSONResponse:
    """What a caller is told of a call that failed."""
    challenge = {"www-authenticate": "Bearer"} if failure.http_status == 401 else {}
    return JSONResponse(
        failure.as_json(), failure.http_status, headers={**failure.headers(), **challenge}
    )


async def _lines(answers: AsyncIterator[Message]) -> StreamingResponse:
    """One JSON object a line. A failure before the first is the response's; later, it cuts it."""
    first = await anext(answers, None)

    async def lines() -> AsyncIterator[str]:
        if first is not None:
            yield _line(first)
        async for answer in answers:
            yield _line(answer)

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _line(message: Message) -> str:
    return json.dumps(MessageToDict(message)) + "\n"


async def _message(route: RestRoute, request: Request) -> Message:
    """Reads the request's message out of its body, or out of its query; and out of its path.

    Raises:
        InvalidArgument: reason MALFORMED_MESSAGE: it is no such message.
    """
    try:
        given = await _body(request) if route.has_body else _query(route.rpc.request, request)
        for name, value in request.path_params.items():
            given[name] = [value] if name == route.repeated else value
        return ParseDict(given, route.rpc.request())
    except (ParseError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"this is no {route.rpc.request.__name__}: {error}", reason="MALFORMED_MESSAGE"
        ) from None


async def _body(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # What a form of another site can send is refused too: it cannot send this type.
        raise ValueError("send JSON, with content-type application/json")
    given = json.loads(await request.body() or b"{}")
    if not isinstance(given, dict):
        raise ValueError("send a JSON object")  # noqa: TRY004 - the caller's mistake
    return given


def _query(kind: type[Message], request: Request) -> dict[str, Any]:
    """The parameters of a query as the JSON of a message: `constraints.includeSeen=true`."""
    given: dict[str, Any] = {}
    for name in request.query_params:
        *path, last = name.split(".")
        inside, message = given, descriptor_of(kind)
        for part in path:
            field = _field(message, part)
            if field.message_type is None:
                raise ValueError(f"{part!r} has no parts")
            message = field.message_type
            inside = inside.setdefault(part, {})
        inside[last] = _value(_field(message, last), request.query_params.getlist(name))
    return given


def _field(message: Descriptor, name: str) -> FieldDescriptor:
    for field in message.fields:
        if name in (field.name, field.json_name):
            return field
    raise ValueError(f"there is no parameter {name!r}")


def _value(field: FieldDescriptor, values: list[str]) -> Any:
    read = [_scalar(field, value) for value in values]
    if field.is_repeated:
        return read
    if len(read) > 1:
        raise ValueError(f"give {field.name!r} once")
    return read[0]


def _scalar(field: FieldDescriptor, value: str) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        if value not in ("true", "false"):
            raise ValueError(f"{field.name!r} is true or false")
        return value == "true"
    return value


def _seconds(headers: Mapping[str, str]) -> float | None:
    """How long the call may take, in seconds; None where it does not say.

    Raises:
        InvalidArgument: reason MALFORMED_MESSAGE.
    """
    given = headers.get(TIMEOUT)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 10):
        raise InvalidArgument(
            f"{TIMEOUT} is a whole number of milliseconds", reason="MALFORMED_MESSAGE"
        )
    return int(given) / 1e3
