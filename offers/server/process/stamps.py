"""Looks at the files of documents and snapshots that hold nobody up, whatever their file system does."""

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from offers.catalogue.published import stamp, stamp_of_files

SILENT_S: Final = 60.0
"""Seconds without the end of a look after which it is logged, each time."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Stamped(NamedTuple):
    """A document and its snapshot, as they were found."""

    document: object
    """Stamp of the document's files."""
    snapshot: Path | None
    files: str
    """Stamp of the snapshot's files; "" without a snapshot."""


class Stamps:
    """Takes stamps on a thread, one look at a time. A dead network mount can keep that thread waiting without end."""

    def __init__(self) -> None:
        self._taken: list[Stamped] | None = None
        self._looks: threading.Thread | None = None
        self._silent_since = 0.0

    def take(self, paths: Sequence[tuple[Path, Path | None]]) -> None:
        """Begin to take the stamps of documents and their snapshots, unless the look before has not ended."""
        now = time.monotonic()
        if self._looks is not None and self._looks.is_alive():
            if now - self._silent_since >= SILENT_S:
                self._silent_since = now
                log.warning("documents_do_not_answer", effect="no edit is noticed", silent_s=SILENT_S)
            return
        self._silent_since = now
        self._looks = threading.Thread(target=self._look, args=(paths,), name="stamps", daemon=True)
        with contextlib.suppress(RuntimeError):  # a limit on threads: the next look may be let
            self._looks.start()

    def taken(self) -> Sequence[Stamped] | None:
        """Return the stamps of a look that has ended since this was last asked, in the order of the documents."""
        taken, self._taken = self._taken, None
        return taken

    def _look(self, paths: Sequence[tuple[Path, Path | None]]) -> None:
        self._taken = [
            Stamped(stamp(document), snapshot, stamp_of_files(snapshot) if snapshot else "")
            for document, snapshot in paths
        ]
