"""An attempt of a call of a service, in the trace of the call that is served."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from types import MappingProxyType
from typing import Any

import grpc
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from serving.telemetry.tracing import here, rpc_attributes, span, trace_metadata

Metadata = tuple[tuple[str, str], ...]


def attempt_span(request: Any, attempt: str, address: str) -> AbstractContextManager[Metadata]:
    """Records an attempt, where the call is recorded; yields what goes with it as metadata.

    Args:
        request: the type of message that is sent, by which the method is known.
        attempt: first, retry or hedge.
        address: of the target.
    """
    if here.get().span is None:
        return nullcontext(trace_metadata())
    return _attempt_span(request, attempt, address)


@contextmanager
def _attempt_span(request: Any, attempt: str, address: str) -> Iterator[Metadata]:
    name, attributes = _method_of(request)
    with span(name, SpanKind.CLIENT, attributes) as recorded:
        if recorded is not None:
            recorded.set_attributes({"tandem.attempt": attempt, "server.address": address})
        code = grpc.StatusCode.CANCELLED
        try:
            yield trace_metadata()
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise
        else:
            code = grpc.StatusCode.OK
        finally:
            if recorded is not None:
                recorded.set_attribute("rpc.grpc.status_code", code.value[0])


@cache
def _method_of(request: Any) -> tuple[str, Mapping[str, AttributeValue]]:
    """The method that takes a message, of the services in the message's own file."""
    descriptor = request.DESCRIPTOR
    for service in descriptor.file.services_by_name.values():
        for method in service.methods:
            if method.input_type == descriptor:
                name = f"{service.full_name}/{method.name}"
                return name, MappingProxyType(rpc_attributes(f"/{name}"))
    raise ValueError(f"no method takes a {descriptor.full_name}")
