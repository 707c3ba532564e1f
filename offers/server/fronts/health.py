"""The standard health service, grpc.health.v1, in a form that no client can block.

The servicer of grpcio-health-checking sends to its watchers while it holds a lock that the serving thread takes when a
watcher leaves, so two clients that reconnect stop the server for good (https://github.com/grpc/grpc/issues/43403). Here
nothing is locked while a message is sent: each change is handed to every watcher on a thread of the calls.
"""

import threading
from collections.abc import Iterable, Iterator

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from offers.errors import BusyError, FieldViolation, InvalidRequestError, NotFoundError
from offers.server.fronts.handlers import Handlers, Send, end_with, only_message, raw_handlers, sending_handler
from offers.server.fronts.threads import CallThreads

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MOST_WATCHERS = 1_000
"""Watch streams of a worker at once."""

Status = int
"""A value of HealthCheckResponse.ServingStatus."""
_Response = health_pb2.HealthCheckResponse


class Health:
    """The status of each service of a worker, for Check, List and Watch. At first none is serving."""

    def __init__(self, threads: CallThreads, services: Iterable[str]) -> None:
        self._threads = threads
        self._statuses: dict[str, Status] = dict.fromkeys(services, _Response.NOT_SERVING)
        self._watchers: dict[int, _Watcher] = {}

    def set(self, service: str, status: Status) -> None:
        """Set the status of a service, and tell its watchers."""
        self._statuses[service] = status
        for watcher in list(self._watchers.values()):
            if watcher.service == service:
                self._threads.submit(self._tell, watcher)

    def set_all(self, status: Status) -> None:
        """Set the status of every service."""
        for service in self._statuses:
            self.set(service, status)

    def end(self) -> None:
        """End all Watch streams, so that their clients look for another server."""
        for watcher in list(self._watchers.values()):
            watcher.context.set_code(grpc.StatusCode.UNAVAILABLE)
            watcher.send(None)

    def handlers(self) -> Handlers:
        """Return the handlers of the service's methods."""
        unary = raw_handlers(self._threads, {"Check": self._check, "List": self._list})
        return {**unary, "Watch": sending_handler(self._threads, self._watch)}

    def _check(self, message: bytes) -> bytes:
        service = _service_in(message)
        if service not in self._statuses:
            raise NotFoundError(f"no service '{service}' here: List names those there are")
        return _encoded(self._statuses[service])

    def _list(self, _message: bytes) -> bytes:
        found = {name: _Response(status=status) for name, status in self._statuses.items()}
        return bytes(health_pb2.HealthListResponse(statuses=found).SerializeToString())

    def _watch(self, messages: Iterator[bytes], context: grpc.ServicerContext, send: Send) -> None:
        message = only_message(self._threads, messages, context)
        try:
            service = _service_in(message)
            if len(self._watchers) >= MOST_WATCHERS:
                raise BusyError("as many Watch streams are open as this server takes: use Check")  # noqa: TRY301
        except (InvalidRequestError, BusyError) as error:
            end_with(error, context)
        watcher = _Watcher(service, context, send)
        self._watchers[id(watcher)] = watcher

        def forget() -> None:
            self._watchers.pop(id(watcher), None)

        if not context.add_callback(forget):  # the stream has ended already
            forget()
        self._tell(watcher)

    def _tell(self, watcher: "_Watcher") -> None:
        """Send a watcher the present status unless it was sent already, or another thread is about to."""
        while (status := self._status_of(watcher.service)) != watcher.told and watcher.turn.acquire(blocking=False):
            try:
                watcher.told = status
                with self._threads.waiting(watcher.context):
                    watcher.send(_encoded(status))
            finally:
                watcher.turn.release()

    def _status_of(self, service: str) -> Status:
        return self._statuses.get(service, int(_Response.SERVICE_UNKNOWN))


class _Watcher:
    """A Watch stream, and the status that its client was told last."""

    def __init__(self, service: str, context: grpc.ServicerContext, send: Send) -> None:
        self.service, self.context, self.send = service, context, send
        self.told: Status | None = None
        self.turn = threading.Lock()
        """Held by the one thread that sends, and never waited for."""


def _encoded(status: Status) -> bytes:
    return bytes(_Response(status=status).SerializeToString())


def _service_in(message: bytes) -> str:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(message).service)
    except DecodeError:
        violation = FieldViolation("", "not a grpc.health.v1.HealthCheckRequest")
        raise InvalidRequestError([violation]) from None
