"""The grpcio front: streams, reflection and health, and every other method where no other front takes it."""

from collections.abc import Iterable, Sequence

import grpc

from offers.errors import OffersError
from offers.server.fronts.contract import Methods
from offers.server.process.handlers import raw_handlers
from offers.server.process.threads import CallThreads


class GrpcioFront:
    """A Front that runs grpcio's synchronous server."""

    name = "grpcio"

    def __init__(
        self,
        threads: CallThreads,
        services: Iterable[Methods],
        others: Iterable[grpc.GenericRpcHandler],
        options: Sequence[tuple[str, int]],
    ) -> None:
        """`others` are the handlers of methods that are no Methods; `options` those of transport.py."""
        self._threads = threads
        self._server = grpc.server(
            threads,  # type: ignore[arg-type] # any Executor will do
            options=options,
        )
        handlers = [raw_handlers(threads, *methods) for methods in services]
        self._server.add_generic_rpc_handlers((*handlers, *others))

    @property
    def finished(self) -> int:
        """See Front."""
        return self._threads.finished

    def listen(self, address: str) -> int:
        """See Front. May be called several times."""
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise OffersError(cannot_listen(address))
        return bound

    def start(self) -> None:
        """See Front."""
        self._server.start()

    def stop(self, grace_s: float | None) -> None:
        """See Front."""
        self._server.stop(grace_s).wait()


def cannot_listen(address: str) -> str:
    """Return the message about an address that cannot be bound."""
    return f"cannot listen on {address}: is the port taken, or the address not of this machine?"
