"""The port that the workers of a server share: whose it is, and how one server takes it over from another."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator

import structlog

from offers.errors import OffersError
from offers.settings import Settings, address_of

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@contextlib.contextmanager
def reserved_port(settings: Settings) -> Iterator[int]:
    """Reserve the port for workers, which share it by SO_REUSEPORT, and return it (settings may say 0: a free one).

    Another server may have it only where `allow_handover` says so, or where its supervisor was killed: its workers end
    by themselves, and until then answer what still reaches them. Raises OffersError when the port is taken, because two
    servers would otherwise share its calls unnoticed.
    """
    with contextlib.ExitStack() as stack:
        mark = stack.enter_context(_mark(settings)) if settings.port else None
        was_left = mark is not None and _is_locked(mark, fcntl.LOCK_EX) and os.fstat(mark).st_size > 0
        if taken := _taken(settings.host, settings.port):
            if not settings.allow_handover and not was_left:
                raise _refused(settings, taken)
            reason = "its server was killed, and its workers are about to end" if was_left else "this server takes over"
            log.info("port_shared", port=settings.port, reason=reason)
        holder = stack.enter_context(socket.socket(_family(settings.host), socket.SOCK_STREAM))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((settings.host, settings.port))  # it never listens
        except OSError as error:
            raise _refused(settings, error) from None
        if mark is not None:
            fcntl.flock(mark, fcntl.LOCK_SH)
            os.pwrite(mark, b"serving", 0)
        yield holder.getsockname()[1]
        if mark is not None and _is_locked(mark, fcntl.LOCK_EX):
            os.ftruncate(mark, 0)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _taken(host: str, port: int) -> OSError | None:
    """Return the error of somebody who wants the port alone, and None where that is possible."""
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        return error
    return None


def _refused(settings: Settings, error: OSError) -> OffersError:
    what = "stop what uses it, or name another --port"
    if error.errno == errno.EADDRINUSE:
        what += "; --allow-handover takes over from another server of the same user"
    return OffersError(f"cannot listen on {address_of(settings.host, settings.port)} ({error.strerror}): {what}")


@contextlib.contextmanager
def _mark(settings: Settings) -> Iterator[int | None]:
    """Open the port's mark in the data folder; None where that is not possible: who writes there next says why.

    The mark is a file that the supervisors on this port have locked, together, while they live. It says "serving" until
    the last of them has stopped in order.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        file = os.open(settings.data_dir / f"port-{settings.port}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


def _is_locked(file: int, how: int) -> bool:
    """Try to lock a file, and return whether that was possible."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, how | fcntl.LOCK_NB)
        return True
    return False
