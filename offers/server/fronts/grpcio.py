"""The grpcio front: streams, reflection and health, and every other method where no other front takes it."""

from collections.abc import Sequence

import grpc

from offers.errors import OffersError
from offers.server.fronts.contract import Offered
from offers.server.process.gate import AdmittedThreads
from offers.server.process.handlers import raw_handlers
from offers.server.process.threads import CallThreads


class GrpcioFront:
    """A Front that runs grpcio's synchronous server."""

    name = "grpcio"
    admissions = ()

    def __init__(
        self, threads: AdmittedThreads, apart: CallThreads, offered: Offered, options: Sequence[tuple[str, int]]
    ) -> None:
        """`threads` run the services, `apart` everything else; `options` are those of transport.py."""
        self._threads = threads
        self._server = grpc.server(apart, options=options)
        services = {one.service: raw_handlers(threads, one.unary, one.streams, one.parted) for one in offered.services}
        threads.guard(self._server, {f"/{service}/{name}" for service, methods in services.items() for name in methods})
        for service, methods in {**services, **offered.others}.items():
            self._server.add_registered_method_handlers(service, methods)
        self._server.add_generic_rpc_handlers(tuple(offered.extra))

    @property
    def finished(self) -> int:
        """See Front."""
        return self._threads.finished

    def answers_within(self, seconds: float) -> bool:
        """See Front."""
        return self._threads.answers_within(seconds)

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
