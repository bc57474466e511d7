"""Whatever is sent, the answer is one for the caller: no request shows a defect."""

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.api.routes import ROUTES
from console.calls.contract import RPCS
from tests.console.served import Stack, ask

texts = st.text(max_size=20) | st.sampled_from(
    ["ann", "i3", "-1", "1e9", "nan", "genre=Drama", ".."]
)
fields = ("user", "k", "filter", "pin", "exclude", "diversity", "history", "text", "items", "id")
pages = ("/", "/beam", "/similar", "/catalog", "/catalog/item", "/bundles/change", "/load", "/api")
names = (*fields, "explain", "seen", "strategy", "space", "after", "pageSize", "constraints.filter")
queries = st.dictionaries(st.sampled_from(names), texts, max_size=5)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["userId", "items", "query", "text"]) | texts, inner)
    ),
    max_leaves=6,
)
many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RIGHT = range(200, 500)


def query(asked: dict[str, str]) -> str:
    return "&".join(
        f"{name}={quote(value.encode('utf-8', 'replace'))}" for name, value in asked.items()
    )


@many
@given(st.sampled_from(pages), queries)
def test_no_question_to_a_page_shows_a_defect(
    stack: Stack, path: str, asked: dict[str, str]
) -> None:
    assert ask(stack.open, f"{path}?{query(asked)}").status in RIGHT


@many
@given(st.sampled_from(ROUTES), texts, queries, values)
def test_no_call_by_rest_shows_a_defect(
    stack: Stack, route: Any, name: str, asked: dict[str, str], body: Any
) -> None:
    filled = quote(name.encode("utf-8", "replace"), safe="")
    path = route.path.replace("{user_id:path}", filled).replace("{item_ids:path}", filled)
    sent = json.dumps(body) if route.has_body else None
    answer = ask(
        stack.open,
        path if sent else f"{path}?{query(asked)}",
        method=route.method,
        body=sent.encode() if sent else None,
        headers={"content-type": "application/json"},
    )
    assert answer.status in RIGHT


@many
@given(
    st.sampled_from(sorted(RPCS)),
    st.sampled_from(["application/json", "application/proto", "application/grpc-web+proto"]),
    st.binary(max_size=40),
)
def test_no_bytes_to_an_rpc_show_a_defect(stack: Stack, path: str, kind: str, body: bytes) -> None:
    answer = ask(stack.open, path, body=body, headers={"content-type": kind})
    assert answer.status in RIGHT


@many
@given(st.sampled_from(["/catalog/add", "/catalog/delete", "/sign-in"]), st.binary(max_size=60))
def test_no_form_shows_a_defect(stack: Stack, path: str, body: bytes) -> None:
    assert ask(stack.open, path, body=body).status in RIGHT
