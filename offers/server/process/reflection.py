"""Server reflection: lets grpcurl, buf curl and ghz call the service without its protos."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

VERSIONS = ("v1alpha", "v1")
"""grpcio-reflection implements v1alpha alone; the messages of v1 are the same on the wire."""


class _Symbols:
    """A descriptor pool that also finds methods by name, as ghz asks for; the library's finds services alone."""

    def __init__(self, pool: Any) -> None:  # noqa: ANN401 - the pool's class has no public name
        self._pool = pool

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - the pool's name
        try:
            file: FileDescriptor = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            file = found.file
        return file


def reflection_handlers(services: Sequence[str]) -> Iterator[grpc.GenericRpcHandler]:
    """Yield the handlers of every version of reflection for some services."""
    names = [*services, reflection.SERVICE_NAME]  # v1 has no descriptor to tell of
    servicer = reflection.ReflectionServicer(names, pool=_Symbols(descriptor_pool.Default()))
    free = threading.Semaphore(1)

    def one_at_a_time(
        requests: Iterator[reflection_pb2.ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[reflection_pb2.ServerReflectionResponse]:
        """Refuse a second stream, because each holds a thread of the worker for as long as its caller likes."""
        if not free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "another reflection stream is open: try again later")
        try:
            yield from servicer.ServerReflectionInfo(requests, context)
        finally:
            free.release()

    handler = grpc.stream_stream_rpc_method_handler(
        one_at_a_time,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for version in VERSIONS:
        service = f"grpc.reflection.{version}.ServerReflection"
        yield grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})
