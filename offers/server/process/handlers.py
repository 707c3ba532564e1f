"""gRPC handlers of methods that take and return encoded messages."""

from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import grpc
from grpc_status import rpc_status

from offers.server import statuses
from offers.server.fronts.contract import Streamed, Unary
from offers.server.process.threads import STREAM_S, CallThreads


def raw_handlers(
    threads: CallThreads, service: str, methods: Mapping[str, Unary], streams: Mapping[str, Streamed] | None = None
) -> grpc.GenericRpcHandler:
    """Return the handler of a service whose methods take and return encoded messages; `streams` take many.

    A method that takes one message is registered as one that takes a stream, which is the same on the wire: otherwise
    grpcio waits for the message before it calls the handler, without a limit.
    """
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
    for name, unary in methods.items():
        handlers[name] = grpc.stream_unary_rpc_method_handler(_unary(threads, unary))
    for name, streamed in (streams or {}).items():
        handlers[name] = grpc.stream_unary_rpc_method_handler(_streamed(threads, streamed))
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
    context.abort_with_status(rpc_status.to_status(statuses.status_for(error)))
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
