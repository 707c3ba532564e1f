"""Makes the fronts of a worker, as the setting `front` says."""

from offers.server.fronts.contract import Decide, Front, Offered
from offers.server.fronts.grpcio import GrpcioFront
from offers.server.process.gate import AdmittedThreads
from offers.server.process.threads import CallThreads
from offers.server.transport import native_options, options_behind, transport_options
from offers.settings import Settings


def fronts_of(
    settings: Settings, threads: AdmittedThreads, apart: CallThreads, offered: Offered, decide: tuple[str, Decide]
) -> tuple[GrpcioFront, Front]:
    """Return the grpcio front of all methods, and the front that clients call: it, or the native one before it.

    `decide` is the path of the method that decides, and what does so for many requests at once.
    """
    if not settings.is_native:
        front = GrpcioFront(threads, apart, offered, transport_options(settings))
        return front, front
    from offers.server.fronts.native import NativeFront  # its package may be missing

    behind = GrpcioFront(threads, apart, offered, options_behind(settings))
    unary = {f"/{one.service}/{name}": method for one in offered.services for name, method in one.unary.items()}
    del unary[decide[0]]
    return behind, NativeFront(behind, threads, decide, unary, native_options(settings))
