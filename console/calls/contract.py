"""Every RPC of the contract, from its descriptors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from google.protobuf.descriptor import (
    Descriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tandem.v1 import (
    bundle_service_pb2,
    candidate_service_pb2,
    catalog_service_pb2,
    generator_service_pb2,
    recommendation_service_pb2,
)

Process = Literal["gateway", "candidate", "generator"]

_FILES: Final[Mapping[FileDescriptor, Process]] = {
    recommendation_service_pb2.DESCRIPTOR: "gateway",
    bundle_service_pb2.DESCRIPTOR: "gateway",
    catalog_service_pb2.DESCRIPTOR: "candidate",
    candidate_service_pb2.DESCRIPTOR: "candidate",
    generator_service_pb2.DESCRIPTOR: "generator",
}


@dataclass(frozen=True)
class Rpc:
    """A method of a service."""

    service: str
    """The service's full name."""
    name: str
    process: Process
    """That answers it."""
    request: type[Message]
    answer: type[Message]
    streams: bool
    """Whether it answers with several messages."""

    @property
    def path(self) -> str:
        """As HTTP has it, also under gRPC."""
        return f"/{self.service}/{self.name}"


def _rpcs() -> Iterator[Rpc]:
    for file, process in _FILES.items():
        services: Mapping[str, ServiceDescriptor] = file.services_by_name
        for service in services.values():
            for method in service.methods:
                if not _streams(method, "client_streaming"):
                    yield _rpc(service, method, process)


def _rpc(service: ServiceDescriptor, method: MethodDescriptor, process: Process) -> Rpc:
    return Rpc(
        service=service.full_name,
        name=method.name,
        process=process,
        request=GetMessageClass(method.input_type),
        answer=GetMessageClass(method.output_type),
        streams=_streams(method, "server_streaming"),
    )


def _streams(method: Any, side: str) -> bool:
    return bool(getattr(method, side))  # which the stubs of protobuf do not know


RPCS: Final[Mapping[str, Rpc]] = {rpc.path: rpc for rpc in _rpcs()}
"""Every RPC by its path, but those whose requests are a stream: HTTP/1 has no good way for them."""


def descriptor_of(kind: type[Message]) -> Descriptor:
    """What a message is made of; the stubs of protobuf know two types of it."""
    return cast("Descriptor", kind.DESCRIPTOR)


def rpc_named(service: str, name: str) -> Rpc:
    """An RPC by the short name of its service and its own."""
    return RPCS[f"/tandem.v1.{service}/{name}"]
