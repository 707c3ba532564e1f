"""The snapshots in service: the supervisor tells its workers and its learner over a socket, with their memory.

No file says which they are, so none can be damaged, removed or lack a disk with room.
"""

import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from offers.catalogue.snapshot import Snapshot

_MOST_BYTES = 1 << 20
_MOST_DESCRIPTORS = 253
"""Descriptors that Linux passes on with a message."""


class ServedSnapshot(NamedTuple):
    """A snapshot in service."""

    path: Path
    memory: int | None
    """Descriptor of sealed memory with a copy of its arrays; None where there is no such memory."""

    @property
    def identity(self) -> tuple[Path, int]:
        """The path, and a number of the memory that no other memory has while it is open."""
        return self.path, 0 if self.memory is None else os.fstat(self.memory).st_ino

    def open(self) -> "Snapshot":
        """Open the copy, else the files. Raises SnapshotError."""
        from offers.catalogue.snapshot import map_snapshot, open_snapshot  # here, as the supervisor needs no arrays

        return open_snapshot(self.path) if self.memory is None else map_snapshot(self.path, self.memory)


class ServedSender:
    """The supervisor's end of the socket of one child process."""

    def __init__(self) -> None:
        self._own, self.childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._own.settimeout(0)

    def send(self, snapshots: Iterable[ServedSnapshot]) -> bool:
        """Tell which snapshots are in service; False where the child has not yet read what it was told before."""
        told = [(str(path), memory is not None) for path, memory in snapshots]
        memories = [memory for _, memory in snapshots if memory is not None]
        try:
            socket.send_fds(self._own, [orjson.dumps(told)], memories)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close both ends of this process."""
        self._own.close()
        self.childs.close()


class ServedReader:
    """A child's end of the socket, given its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(0)
        self.snapshots: Sequence[ServedSnapshot] = ()
        """The snapshots in service; empty until the first message."""

    def look(self) -> bool:
        """Read what was sent since; returns whether `snapshots` are others. The memory of those before is let go."""
        before = self.snapshots
        while (told := self._receive()) is not None:
            self._let_go()
            self.snapshots = told
        return self.snapshots is not before

    def close(self) -> None:
        """Close the socket and let the memory go; what is open stays."""
        self._socket.close()
        self._let_go()
        self.snapshots = ()

    def _let_go(self) -> None:
        for one in self.snapshots:
            if one.memory is not None:
                os.close(one.memory)

    def _receive(self) -> list[ServedSnapshot] | None:
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            message, memories, _, _ = socket.recv_fds(self._socket, _MOST_BYTES, _MOST_DESCRIPTORS, flags)
        except BlockingIOError:
            return None
        left = iter(memories)  # fewer than were sent at the limit of open files: the files are read then
        return [ServedSnapshot(Path(path), next(left, None) if has else None) for path, has in orjson.loads(message)]
