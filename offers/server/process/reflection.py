"""Server reflection: lets grpcurl, buf curl and ghz call the service without its protos."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from offers.errors import InvalidRequestError
from offers.server.convert import parse
from offers.server.limits import MAX_REQUEST_BYTES
from offers.server.process.handlers import each_message, end_with
from offers.server.process.threads import CallThreads

_Request = reflection_pb2.ServerReflectionRequest

MOST_STREAMS = 8
"""Streams of a worker at once."""
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


def reflection_handlers(threads: CallThreads, services: Sequence[str]) -> Iterator[grpc.GenericRpcHandler]:
    """Yield the handlers of every version of reflection for some services."""
    names = [*services, reflection.SERVICE_NAME]  # v1 has no descriptor to tell of
    servicer = reflection.ReflectionServicer(names, pool=_Symbols(descriptor_pool.Default()))
    free = threading.Semaphore(MOST_STREAMS)

    def limited(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        if not free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many reflection streams are open: try again later")
        try:
            for message in each_message(threads, messages, context):
                for response in servicer.ServerReflectionInfo([_parsed(message, context)], context):
                    with threads.waiting(context):  # the response is sent when the next one is asked for
                        yield response.SerializeToString()
        finally:
            free.release()

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(limited)
    for version in VERSIONS:
        service = f"grpc.reflection.{version}.ServerReflection"
        yield grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})


def _parsed(message: bytes, context: grpc.ServicerContext) -> reflection_pb2.ServerReflectionRequest:
    """Return a request. Ends the call with INVALID_ARGUMENT where the message is none."""
    try:
        return parse(_Request, message, MAX_REQUEST_BYTES)
    except InvalidRequestError as error:
        end_with(error, context)
