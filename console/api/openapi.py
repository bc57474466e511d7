"""The OpenAPI document of REST, made from the contract's descriptors."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from console.api.routes import ROUTES, RestRoute
from console.calls.contract import descriptor_of

Schema = dict[str, Any]

_SCALARS: Final[Mapping[int, Schema]] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0},
    # JSON's numbers do not hold 64 bits, so protobuf writes them as text.
    FieldDescriptor.TYPE_INT64: {"type": ["string", "integer"], "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": ["string", "integer"], "format": "uint64"},
    FieldDescriptor.TYPE_FLOAT: {"type": ["number", "string"]},
    FieldDescriptor.TYPE_DOUBLE: {"type": ["number", "string"]},
}
"""NaN and infinities are texts."""
_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Fields, with commas between."},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
}
_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "status", "message"],
            "properties": {
                "code": {"type": "integer", "description": "HTTP's status."},
                "status": {"type": "string", "description": "The canonical code."},
                "message": {"type": "string"},
                "details": {
                    "type": "array",
                    "description": "A google.rpc.ErrorInfo with the reason, for programs.",
                    "items": {"type": "object"},
                },
            },
        }
    },
}


@cache
def document() -> Schema:
    """The document, of OpenAPI 3.1."""
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    schemas = {message.full_name: _message(message) for message in _reachable()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tandem",
            "version": version("tandem-recsys"),
            "description": "The gateway's calls by HTTP. Fields mean what the contract in "
            "protos/tandem/v1 says of them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: RestRoute) -> Schema:
    kind = "application/x-ndjson" if route.rpc.streams else "application/json"
    verb = "" if route.method == "POST" else route.method.title()
    operation: Schema = {
        "operationId": f"{route.rpc.name}{verb}",
        "summary": route.summary,
        "tags": [route.rpc.service.rpartition(".")[2]],
        "parameters": list(_parameters(route)),
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {kind: {"schema": _ref(descriptor_of(route.rpc.answer))}},
            },
            "default": {
                "description": "What was wrong.",
                "content": {"application/json": {"schema": _ref_to("Error")}},
            },
        },
    }
    if route.has_body:
        schema = {"application/json": {"schema": _ref(descriptor_of(route.rpc.request))}}
        operation["requestBody"] = {"required": True, "content": schema}
    return operation


def _parameters(route: RestRoute) -> Iterator[Schema]:
    in_path = [part[1:].partition(":")[0] for part in route.path.split("/") if part[:1] == "{"]
    for field in descriptor_of(route.rpc.request).fields:
        if field.name in in_path:
            schema = _one(field) if field.name == route.repeated else _field(field)
            yield {"name": field.name, "in": "path", "required": True, "schema": schema}
        elif not route.has_body and _is_plain(field):
            yield {"name": field.json_name, "in": "query", "schema": _field(field)}


def _is_plain(field: FieldDescriptor) -> bool:
    """Whether a parameter of a query can hold it by itself."""
    return field.message_type is None or field.message_type.full_name in _WELL_KNOWN


def _reachable() -> list[Descriptor]:
    """Every message that a call by REST has, each once."""
    found: dict[str, Descriptor] = {}
    waiting = [descriptor_of(kind) for r in ROUTES for kind in (r.rpc.request, r.rpc.answer)]
    while waiting:
        message = waiting.pop()
        if message.full_name in found or message.full_name in _WELL_KNOWN:
            continue
        if not message.GetOptions().map_entry:
            found[message.full_name] = message
        waiting += [field.message_type for field in message.fields if field.message_type]
    return [found[name] for name in sorted(found)]


def _message(message: Descriptor) -> Schema:
    properties = {field.json_name: _field(field) for field in message.fields}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _field(field: FieldDescriptor) -> Schema:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return {"type": "object", "additionalProperties": _one(value)}
    return {"type": "array", "items": _one(field)} if field.is_repeated else _one(field)


def _one(field: FieldDescriptor) -> Schema:
    """A value of a field, or one of several."""
    if field.enum_type is not None:
        return _enum(field.enum_type)
    if field.message_type is not None:
        return _ref(field.message_type)
    return dict(_SCALARS[field.type])


def _enum(kind: EnumDescriptor) -> Schema:
    return {"type": "string", "enum": [value.name for value in kind.values]}


def _ref(message: Descriptor) -> Schema:
    known = _WELL_KNOWN.get(message.full_name)
    return dict(known) if known else _ref_to(message.full_name)


def _ref_to(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
