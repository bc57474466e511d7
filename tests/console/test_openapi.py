"""The OpenAPI document: what it says of paths and messages is so."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from console.api.openapi import document
from console.api.routes import ROUTES
from tests.console.served import Stack, ask


def references(part: Any) -> Iterator[str]:
    """Every reference in a document."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_what_it_refers_to_is_there(stack: Stack) -> None:
    served = ask(stack.open, "/openapi.json").json
    assert served == document()
    schemas = served["components"]["schemas"]
    for reference in references(served):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_it_has_every_path_of_rest() -> None:
    paths = document()["paths"]
    listed = {(method.upper(), path) for path, its in paths.items() for method in its}
    assert listed == {(r.method, r.path.replace(":path}", "}")) for r in ROUTES}
    operations = [each["operationId"] for its in paths.values() for each in its.values()]
    assert len(set(operations)) == len(operations)
    for path, its in paths.items():
        in_path = set(re.findall(r"\{(\w+)\}", path))
        for operation in its.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == in_path


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/ann/recommendations?maxResults=3&diagnostics=true&itemFields=title,attributes",
        "/v1/users/ann/history",
        "/v1/items?pageSize=3",
        "/v1/items/i3",
        "/v1/bundles",
    ],
)
def test_answers_are_as_it_says(stack: Stack, path: str) -> None:
    whole = document()
    bare = re.sub(r"/i3$", "/{item_ids}", path.partition("?")[0]).replace("ann", "{user_id}")
    schema = whole["paths"][bare]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    validator = Draft202012Validator({**schema, "components": whole["components"]})
    assert list(validator.iter_errors(ask(stack.open, path).json)) == []
    assert list(validator.iter_errors({"nonsense": 1})) != []


def test_failures_are_as_it_says(stack: Stack) -> None:
    error = document()["components"]["schemas"]["Error"]
    answer = ask(stack.open, "/v1/users/nobody/recommendations")
    assert list(Draft202012Validator(error).iter_errors(answer.json)) == []
