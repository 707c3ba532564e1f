"""The methods of a running server, as reflection tells of them."""

from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Method(NamedTuple):
    """A method of a service."""

    path: str
    """As in the header `:path`: "/package.Service/Method"."""
    request: type[Message]
    sends_many: bool
    """Whether its client sends a stream of messages."""
    answers_many: bool
    """Whether its server sends one."""


def methods_of(channel: grpc.Channel) -> list[Method]:
    """Return all methods of all services of a server, by path."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    found = []
    for service in sorted(database.get_services()):
        for method in pool.FindServiceByName(service).methods:
            path = f"/{service}/{method.name}"
            request = GetMessageClass(method.input_type)
            found.append(Method(path, request, method.client_streaming, method.server_streaming))
    return found


def is_map(field: Any) -> bool:  # noqa: ANN401 - a FieldDescriptor of any implementation
    """Return whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_list(field: FieldDescriptor) -> bool:
    """Return whether a field has many values: a list or a map."""
    return isinstance(field.default_value, list)
