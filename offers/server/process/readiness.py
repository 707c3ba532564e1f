"""The beginning and the end of a server: what systemd is told, and how long the end may take.

See https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html.
"""

import contextlib
import os
import socket

from offers.settings import Settings

STOP_MARGIN_S = 5.0
"""Seconds that a worker has to end, beside those for its calls, before it is killed."""
READY, STOPPING = "READY=1", "STOPPING=1"


def tell(state: str) -> None:
    """Send a state to the socket that NOTIFY_SOCKET names; without one, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def stop_limit_s(settings: Settings) -> float:
    """Return the seconds that a worker has to end, once it is told to."""
    return settings.drain_s + settings.grace_s + STOP_MARGIN_S
