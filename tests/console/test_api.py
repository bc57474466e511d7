"""REST, Connect and gRPC-Web: each answers what gRPC answers, and fails as gRPC fails."""

import re
import struct
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from console.calls.contract import RPCS, Rpc, rpc_named
from serving.security.rights import RULES
from tandem import filters
from tandem.requests import recommend_request
from tandem.v1 import bundle_service_pb2 as bundle_pb
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tandem.v1 import generator_service_pb2 as generator_pb
from tandem.v1 import recommendation_service_pb2 as pb
from tests.console.served import Answer, Stack, ask

RECOMMEND = rpc_named("RecommendationService", "Recommend")
ASKED = recommend_request(
    "ann", max_results=4, filter=filters.parse("genre=Drama"), item_fields=("title",)
)


def same(message: Any) -> Any:
    """What two answers to one question have in common: not how long they took, nor their names."""
    copy = type(message)()
    copy.CopyFrom(message)
    for field in ("timings", "recommendation_id", "batch_size"):
        if field in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(field)
    return copy


def by_grpc(stack: Stack, rpc: Rpc, request: Message) -> Any:
    with grpc.insecure_channel(stack.addresses[rpc.process]) as channel:
        call = channel.unary_unary(rpc.path, rpc.request.SerializeToString, rpc.answer.FromString)
        return call(request, timeout=30)


def by_connect(address: str, rpc: Rpc, request: Message, **headers: str) -> Answer:
    sent = {"content-type": "application/proto", "connect-protocol-version": "1", **headers}
    return ask(address, rpc.path, body=request.SerializeToString(), headers=sent)


def by_grpc_web(address: str, rpc: Rpc, request: Message, **headers: str) -> Answer:
    body = request.SerializeToString()
    sent = {"content-type": "application/grpc-web+proto", **headers}
    return ask(address, rpc.path, body=struct.pack(">BI", 0, len(body)) + body, headers=sent)


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """The frames of a stream, each with its flags."""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def rest(stack: Stack, request: pb.RecommendRequest) -> pb.RecommendResponse:
    answer = ask(stack.open, "/v1/recommendations", json_=MessageToDict(request))
    assert answer.status == 200, answer.text
    return ParseDict(answer.json, pb.RecommendResponse())


def connect(stack: Stack, request: pb.RecommendRequest) -> pb.RecommendResponse:
    return pb.RecommendResponse.FromString(by_connect(stack.open, RECOMMEND, request).body)


def connect_json(stack: Stack, request: pb.RecommendRequest) -> pb.RecommendResponse:
    answer = ask(stack.open, RECOMMEND.path, json_=MessageToDict(request))
    return ParseDict(answer.json, pb.RecommendResponse())


def grpc_web(stack: Stack, request: pb.RecommendRequest) -> pb.RecommendResponse:
    (_, message), (flags, trailers) = frames(by_grpc_web(stack.open, RECOMMEND, request).body)
    assert flags == 0x80
    assert b"grpc-status: 0" in trailers.lower()
    return pb.RecommendResponse.FromString(message)


@pytest.mark.parametrize("call", [rest, connect, connect_json, grpc_web])
def test_each_protocol_answers_as_grpc(
    stack: Stack, call: Callable[[Stack, pb.RecommendRequest], pb.RecommendResponse]
) -> None:
    expected = by_grpc(stack, RECOMMEND, ASKED)
    assert len(expected.recommendations) == 4
    assert expected.recommendations[0].title
    assert same(call(stack, ASKED)) == same(expected)


@pytest.mark.parametrize(
    ("rpc", "request_", "method", "path", "body"),
    [
        (
            RECOMMEND,
            pb.RecommendRequest(
                user_id="ann", max_results=3, item_fields=FieldMask(paths=["title", "attributes"])
            ),
            "GET",
            "/v1/users/ann/recommendations?maxResults=3&itemFields=title,attributes",
            None,
        ),
        (
            RECOMMEND,
            recommend_request("ann", max_results=3, exclude=["i9", "i8"], include_seen=True),
            "GET",
            "/v1/users/ann/recommendations?max_results=3&constraints.includeSeen=true"
            "&constraints.excludedItemIds=i9&constraints.excludedItemIds=i8",
            None,
        ),
        (
            rpc_named("RecommendationService", "GetHistory"),
            pb.GetHistoryRequest(user_id="ann", page_size=2),
            "GET",
            "/v1/users/ann/history?pageSize=2",
            None,
        ),
        (
            rpc_named("RecommendationService", "GetItems"),
            catalog_pb.GetItemsRequest(item_ids=["i3"]),
            "GET",
            "/v1/items/i3",
            None,
        ),
        (
            rpc_named("CatalogService", "ListItems"),
            catalog_pb.ListItemsRequest(page_size=5),
            "GET",
            "/v1/items?pageSize=5",
            None,
        ),
        (
            rpc_named("BundleService", "ListBundles"),
            bundle_pb.ListBundlesRequest(),
            "GET",
            "/v1/bundles",
            None,
        ),
        (
            rpc_named("RecommendationService", "SimilarItems"),
            ParseDict({"query": {"items": {"itemIds": ["i3"]}}}, pb.SimilarItemsRequest()),
            "POST",
            "/v1/similar-items",
            {"query": {"items": {"itemIds": ["i3"]}}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)
def test_each_path_of_rest_answers_as_grpc(
    stack: Stack, rpc: Rpc, request_: Message, method: str, path: str, body: Any
) -> None:
    answer = ask(stack.open, path, method=method, json_=body)
    assert answer.status == 200, answer.text
    expected = by_grpc(stack, rpc, request_)
    assert same(ParseDict(answer.json, rpc.answer())) == same(expected)


def test_the_generator_is_called_too(stack: Stack) -> None:
    rpc = rpc_named("GeneratorService", "DiagnoseItems")
    request = generator_pb.DiagnoseItemsRequest(
        context=generator_pb.UserContext(history_item_ids=["i1"]), item_ids=["i4", "i5"]
    )
    answer = by_connect(stack.open, rpc, request)
    assert rpc.answer.FromString(answer.body) == by_grpc(stack, rpc, request)


def test_a_stream_is_passed_on(stack: Stack) -> None:
    export = rpc_named("RecommendationService", "ExportUser")
    sent = by_grpc_web(stack.open, export, pb.ExportUserRequest(user_id="ann"))
    *messages, (last, _) = frames(sent.body)
    said = [pb.ExportUserResponse.FromString(message) for _, message in messages]
    lines = ask(stack.open, "/v1/users/ann/export")
    assert last == 0x80
    assert [ParseDict(each, pb.ExportUserResponse()) for each in map(_json, _lines(lines))] == said
    assert [each.event.item_id for answer in said for each in answer.events] == ["i0", "i1", "i2"]


def _lines(answer: Answer) -> list[str]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return answer.text.splitlines()


def _json(line: str) -> Any:
    return Answer(200, {}, line.encode()).json


def test_every_rpc_but_streams_of_requests_has_a_path() -> None:
    own = {path for path in RULES if path.startswith("/tandem.")}
    assert own - RPCS.keys() == {"/tandem.v1.RecommendationService/BatchRecommend"}
    assert RPCS.keys() <= own


NOBODY = pb.RecommendRequest(user_id="nobody")


def test_rest_fails_as_grpc(stack: Stack) -> None:
    answer = ask(stack.open, "/v1/users/nobody/recommendations")
    error = answer.json["error"]
    assert (answer.status, error["code"], error["status"]) == (404, 404, "NOT_FOUND")
    assert answer.reason == "UNKNOWN_USER"
    assert error["details"][0]["domain"] == "tandem"


def test_connect_fails_as_grpc(stack: Stack) -> None:
    answer = by_connect(stack.open, RECOMMEND, NOBODY)
    assert answer.status == 404
    assert answer.json["code"] == "not_found"
    (detail,) = answer.json["details"]
    assert detail["type"] == "google.rpc.ErrorInfo"
    info = error_details_pb2.ErrorInfo.FromString(b64decode(detail["value"] + "=="))
    assert (info.reason, info.domain) == ("UNKNOWN_USER", "tandem")


def test_grpc_web_fails_as_grpc(stack: Stack) -> None:
    answer = by_grpc_web(stack.open, RECOMMEND, NOBODY)
    ((flags, trailers),) = frames(answer.body)
    assert flags == 0x80
    assert b"grpc-status: 5" in trailers.lower()
    assert b"grpc-status-details-bin" in trailers.lower()


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/recommendations", b"{", "no RecommendRequest"),
        ("/v1/recommendations", b"[]", "JSON object"),
        ("/v1/recommendations", b'{"user": "ann"}', "user"),
        ("/v1/recommendations", b'{"maxResults": "many"}', "maxResults"),
        ("/v1/recommendations", b"\xff\xfe", "no RecommendRequest"),
        ("/v1/recommendations", b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "no RecommendRequest"),
        ("/v1/users/ann/recommendations?nothing=1", None, "no parameter 'nothing'"),
        ("/v1/users/ann/recommendations?userId.x=1", None, "no parts"),
        ("/v1/users/ann/recommendations?diagnostics=yes", None, "true or false"),
        ("/v1/users/ann/recommendations?maxResults=1&maxResults=2", None, "once"),
        ("/v1/users/ann/recommendations?strategy=BEST", None, "BEST"),
    ],
)
def test_what_is_no_message_is_the_callers_mistake(
    stack: Stack, path: str, body: bytes | None, words: str
) -> None:
    answer = ask(stack.open, path, body=body, headers={"content-type": "application/json"})
    assert (answer.status, answer.reason) == (400, "MALFORMED_MESSAGE")
    assert words in answer.json["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_rest_takes_no_form_of_another_site(stack: Stack, kind: str) -> None:
    answer = ask(stack.open, "/v1/events", body=b"{}", headers={"content-type": kind})
    assert (answer.status, answer.reason) == (400, "MALFORMED_MESSAGE")


@pytest.mark.parametrize("kind", ["application/json", "application/proto"])
def test_connect_refuses_what_is_no_message(stack: Stack, kind: str) -> None:
    answer = ask(stack.open, RECOMMEND.path, body=b"\xff{", headers={"content-type": kind})
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")


def test_grpc_itself_is_not_spoken(stack: Stack) -> None:
    headers = {"content-type": "application/grpc"}
    assert ask(stack.open, RECOMMEND.path, body=b"", headers=headers).status == 415


def test_the_callers_credentials_are_passed_on(stack: Stack) -> None:
    key = stack.keys["operator"]
    shown: list[dict[str, str]] = [{"authorization": f"Bearer {key}"}, {"x-api-key": key}]
    for headers in shown:
        assert ask(stack.keyed, "/v1/users/ann/history", headers=headers).status == 200
        assert by_connect(stack.keyed, RECOMMEND, ASKED, **headers).status == 200


@pytest.mark.parametrize(
    ("key", "status", "reason"),
    [
        ("", 401, "NO_CREDENTIALS"),
        ("wrong", 401, "INVALID_CREDENTIALS"),
        ("guest", 403, "MISSING_RIGHT"),
    ],
)
def test_who_may_not_is_told_why(stack: Stack, key: str, status: int, reason: str) -> None:
    key = stack.keys.get(key, key)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = ask(stack.keyed, "/v1/users/ann/history", headers=headers)
    assert (answer.status, answer.reason) == (status, reason)
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_deadline_is_kept(stack: Stack) -> None:
    late = ask(stack.open, "/v1/users/ann/recommendations", headers={"connect-timeout-ms": "0"})
    assert (late.status, late.json["error"]["status"]) == (504, "DEADLINE_EXCEEDED")
    wrong = ask(stack.open, "/v1/users/ann/recommendations", headers={"connect-timeout-ms": "-1"})
    assert (wrong.status, wrong.reason) == (400, "MALFORMED_MESSAGE")


def test_a_request_keeps_its_id(stack: Stack) -> None:
    for path in ("/v1/users/ann/recommendations", "/v1/users/nobody/recommendations", "/"):
        answer = ask(stack.open, path, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        other = ask(stack.open, path, headers={"x-request-id": "a;b"}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", other)
