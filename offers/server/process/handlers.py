"""gRPC handlers of methods that take and return encoded messages."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NoReturn, TypeVar

import grpc
from grpc_status import rpc_status

from offers.errors import OffersError, OverloadedError
from offers.server import statuses
from offers.server.admission import Pace
from offers.server.process.threads import STREAM_S, CallThreads

Unary = Callable[[bytes], bytes]
"""Answers an encoded request with an encoded response. Any error it raises ends the call with a status."""
Streamed = Callable[[Iterator[bytes]], bytes]
"""Answers a stream of encoded requests with an encoded response."""
Parted = Callable[[bytes], Iterator[bytes]]
"""Answers an encoded request with a stream of encoded responses."""
Send = Callable[[bytes | None], None]
"""Sends a message of the response; None ends the call."""
Handlers = dict[str, "grpc.RpcMethodHandler[bytes, bytes]"]
Behaviour = TypeVar("Behaviour", bound=Callable[..., object])


class StreamEndedError(Exception):
    """A stream that waited for its client was ended by the server."""


class Stream:
    """A call with many messages, which any thread can end with a status, though another waits for its client."""

    def __init__(self, context: grpc.ServicerContext, send: Send) -> None:
        self._context, self._send = context, send
        self._lock = threading.Lock()
        self.has_ended = False

    def send(self, message: bytes) -> None:
        """Send a message. Blocks until the client has taken it."""
        self._send(message)

    def claim(self) -> bool:
        """Return whether the call has not ended yet; whoever is told so is to end it."""
        with self._lock:
            is_first, self.has_ended = not self.has_ended, True
        return is_first

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "") -> None:
        """End the call with a status. The first end counts."""
        if not self.claim():
            return
        self._context.set_code(code)
        self._context.set_details(details)
        self._send(None)

    def cancel(self) -> None:
        """End the call of a client that took too long, or cancel it where its end has not freed the thread."""
        if self.has_ended:
            self._context.cancel()
        details = f"no message came in time: send one within {STREAM_S:g} s, or end the stream and open another"
        self.end(grpc.StatusCode.DEADLINE_EXCEEDED, details)

    def drain(self) -> None:
        """End the call because the server stops."""
        self.end(grpc.StatusCode.UNAVAILABLE, "the server stops: open the stream again, at another server")


def raw_handlers(
    threads: CallThreads,
    methods: Mapping[str, Unary],
    streams: Mapping[str, Streamed] | None = None,
    parted: Mapping[str, Parted] | None = None,
) -> Handlers:
    """Return handlers of methods that take and return encoded messages, on threads.

    The methods in `streams` take many, those in `parted` return many.

    A method that takes one message is registered as one that takes a stream, which is the same on the wire: otherwise
    grpcio waits for the message before it calls the handler, without a limit. For the same reason, one that returns one
    message at the end of a stream is registered as one that returns a stream: grpcio calls it with a function that
    sends, by which any thread can end the call.
    """
    handlers: Handlers = {
        name: grpc.stream_unary_rpc_method_handler(on(threads, _unary(threads, unary)))
        for name, unary in methods.items()
    }
    for name, streamed in (streams or {}).items():
        handlers[name] = sending_handler(threads, _streamed(threads, streamed))
    for name, in_parts in (parted or {}).items():
        handlers[name] = grpc.stream_stream_rpc_method_handler(on(threads, _parted(threads, in_parts)))
    return handlers


def on(threads: CallThreads, handle: Behaviour) -> Behaviour:
    """Have grpcio call a handler on some threads."""
    handle.experimental_thread_pool = threads  # type: ignore[attr-defined]
    return handle


def sending_handler(
    threads: CallThreads, behave: Callable[[Iterator[bytes], grpc.ServicerContext, Send], None]
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Return a handler that is called with a function that sends; the call goes on when it returns."""

    def handle(messages: Iterator[bytes], context: grpc.ServicerContext, send_response_callback: Send) -> None:
        behave(messages, context, send_response_callback)

    handle.experimental_non_blocking = True  # type: ignore[attr-defined]
    return grpc.stream_stream_rpc_method_handler(on(threads, handle))


def only_message(threads: CallThreads, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """Return the message of a unary call. Ends the call with UNIMPLEMENTED if its client sends none."""
    with threads.waiting(context):
        message = next(messages, None)
    if message is None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the method takes exactly one message, and none came")
    return message


def each_message(threads: CallThreads, messages: Iterator[bytes], stream: Stream) -> Iterator[bytes]:
    """Yield the messages of a stream, each within STREAM_S after the one before was dealt with.

    Raises StreamEndedError where the client took too long, or the server stops.
    """
    while True:
        with threads.waiting(stream, STREAM_S, stream.drain):
            if threads.is_draining:
                stream.drain()
            message = None if stream.has_ended else next(messages, None)
        if stream.has_ended:
            raise StreamEndedError
        if message is None:
            return
        yield message


def end_with(error: Exception, context: grpc.ServicerContext) -> NoReturn:
    """End a call with the status of an error, and log an unexpected one."""
    if isinstance(error, OverloadedError):
        context.abort_with_status(_overloaded(str(error)))
    context.abort_with_status(rpc_status.to_status(statuses.status_for(error)))
    raise AssertionError  # abort has raised


@lru_cache(maxsize=8)
def _overloaded(message: str) -> grpc.Status:
    """Return the status of a call that was refused, made once: there are many of them when there is no time."""
    status: grpc.Status = rpc_status.to_status(statuses.status_of(OverloadedError(message)))
    return status


def _unary(threads: CallThreads, answer: Unary) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    pace = Pace()

    def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        try:
            threads.admit(context, pace)
        except OffersError as error:
            end_with(error, context)
        message = only_message(threads, messages, context)
        begin = time.monotonic()
        try:
            answered = answer(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            end_with(error, context)
        now = time.monotonic()
        pace.note(now - begin, now)
        return answered

    return handle


def _streamed(threads: CallThreads, answer: Streamed) -> Callable[[Iterator[bytes], grpc.ServicerContext, Send], None]:
    pace = Pace()  # a stream takes as long as its client likes

    def handle(messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
        stream = Stream(context, send)
        try:
            threads.admit(context, pace)
            answered = answer(each_message(threads, messages, stream))
        except grpc.RpcError:  # the caller has cancelled its stream
            raise
        except StreamEndedError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            if stream.claim():
                end_with(error, context)
            return
        with threads.waiting(context):
            stream.send(answered)
        stream.end()

    return handle


def _parted(threads: CallThreads, answer: Parted) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    pace = Pace()  # a client takes the parts as fast as it likes

    def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            threads.admit(context, pace)
        except OffersError as error:
            end_with(error, context)
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
