"""gRPC handlers of methods that take and return encoded messages."""

from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import grpc
import structlog
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from offers.errors import OffersError
from offers.server import statuses
from offers.server.process.threads import STREAM_S, CallThreads
from offers.telemetry.logs import log_failure

Unary = Callable[[bytes], bytes]
Streamed = Callable[[Iterator[bytes]], bytes]
Parted = Callable[[bytes], Iterator[bytes]]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def raw_handlers(
    threads: CallThreads,
    service: str,
    methods: Mapping[str, Unary],
    streams: Mapping[str, Streamed] | None = None,
    parted: Mapping[str, Parted] | None = None,
) -> grpc.GenericRpcHandler:
    """Return the handler of a service whose methods take and return encoded messages.

    The methods in `streams` take many, those in `parted` return many.

    A method that takes one message is registered as one that takes a stream, which is the same on the wire: otherwise
    grpcio waits for the message before it calls the handler, without a limit.
    """
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for name, unary in methods.items():
        handlers[name] = grpc.stream_unary_rpc_method_handler(_unary(threads, unary))
    for name, streamed in (streams or {}).items():
        handlers[name] = grpc.stream_unary_rpc_method_handler(_streamed(threads, streamed))
    for name, in_parts in (parted or {}).items():
        handlers[name] = grpc.stream_stream_rpc_method_handler(_parted(threads, in_parts))
    return grpc.method_handlers_generic_handler(service, handlers)


def only_message(threads: CallThreads, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """Return the message of a unary call. Ends the call with UNIMPLEMENTED if its client sends none."""
    with threads.waiting(context):
        message = next(messages, None)
    if message is None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the method takes exactly one message, and none came")
    return message


def each_message(
    threads: CallThreads, messages: Iterator[bytes], context: grpc.ServicerContext, seconds: float = STREAM_S
) -> Iterator[bytes]:
    """Yield the messages of a stream, each within some seconds after the one before was dealt with."""
    while True:
        with threads.waiting(context, seconds):
            message = next(messages, None)
        if message is None:
            return
        yield message


def end_with(error: Exception, context: grpc.ServicerContext) -> NoReturn:
    """End a call with the status of an error, and log an unexpected one."""
    if isinstance(error, OffersError):
        status = statuses.status_of(error)
    else:
        log_failure(log, "call_failed", error)
        status = status_pb2.Status(code=code_pb2.INTERNAL, message="internal error: the server's log has it")
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError  # abort has raised


def _unary(threads: CallThreads, answer: Unary) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        message = only_message(threads, messages, context)
        try:
            return answer(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            end_with(error, context)

    return handle


def _streamed(threads: CallThreads, answer: Streamed) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            return answer(each_message(threads, messages, context))
        except grpc.RpcError:  # the caller has cancelled its stream, or was too slow
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            end_with(error, context)

    return handle


def _parted(
    threads: CallThreads, answer: Parted
) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:  # fmt: skip
    def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        message = only_message(threads, messages, context)
        try:
            for part in answer(message):
                with threads.waiting(context):  # the part is sent when the next one is asked for
                    yield part
        except grpc.RpcError:  # the caller has cancelled, or was too slow
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            end_with(error, context)

    return handle
