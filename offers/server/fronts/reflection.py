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
from offers.server.fronts.handlers import (
    Handlers,
    Send,
    Stream,
    StreamEndedError,
    each_message,
    end_with,
    sending_handler,
)
from offers.server.fronts.threads import CallThreads
from offers.server.limits import MAX_REQUEST_BYTES

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


def reflection_handlers(threads: CallThreads, services: Sequence[str]) -> Iterator[tuple[str, Handlers]]:
    """Yield the name and the handlers of every version of reflection for some services."""
    names = [*services, reflection.SERVICE_NAME]  # v1 has no descriptor to tell of
    servicer = reflection.ReflectionServicer(names, pool=_Symbols(descriptor_pool.Default()))
    free = threading.Semaphore(MOST_STREAMS)

    def reflect(messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
        if not free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many reflection streams are open: try again later")
        stream = Stream(context, send)
        try:
            for message in each_message(threads, messages, stream):
                for response in servicer.ServerReflectionInfo([_parsed(message, context)], context):
                    with threads.waiting(context):
                        stream.send(response.SerializeToString())
        except StreamEndedError:
            return
        finally:
            free.release()
        stream.end()

    for version in VERSIONS:
        service = f"grpc.reflection.{version}.ServerReflection"
        yield service, {"ServerReflectionInfo": sending_handler(threads, reflect)}


def _parsed(message: bytes, context: grpc.ServicerContext) -> reflection_pb2.ServerReflectionRequest:
    """Return a request. Ends the call with INVALID_ARGUMENT where the message is none."""
    try:
        return parse(_Request, message, MAX_REQUEST_BYTES)
    except InvalidRequestError as error:
        end_with(error, context)
