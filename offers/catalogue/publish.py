"""From a document on disk to an open snapshot: compiled only when its content changed."""

import contextlib
import hashlib
import os
import shutil
import time
import zoneinfo
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from offers.catalogue import snapshot
from offers.catalogue.compile.audiences import sensitive_uses
from offers.catalogue.compile.compiler import compile_snapshot
from offers.catalogue.document import files
from offers.errors import CatalogError, Problem, SnapshotError

ATTEMPTS = 3
"""Compilations of a document that changes while it is read, before giving up."""
KEPT_S = 7 * 86_400
"""How long a snapshot outlives its last use: long enough to go back to yesterday's document at once."""
_BLOCK = 1 << 20

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Published(NamedTuple):
    """A snapshot on disk."""

    path: Path
    version: str
    catalog_id: str
    compiled: bool
    """False: it was there already."""


def publish(source: Path, data_dir: Path) -> Published:
    """Compile the document `source` into `data_dir`/snapshots, unless its content is there already.

    Raises CatalogError with every problem of the document; what was published before is untouched.
    Writes each use of sensitive attributes to the log.
    """
    for _ in range(ATTEMPTS):
        version = fingerprint(source)
        path = data_dir / "snapshots" / version
        try:
            found = snapshot.open_snapshot(path)
            with contextlib.suppress(OSError):  # a folder that only others write to serves as well
                os.utime(path)
            _tell_sensitive(found.meta["catalog_id"], found.meta["sensitive_uses"])
            return Published(path, version, found.meta["catalog_id"], compiled=False)
        except SnapshotError:
            checked = compile_snapshot(source, path, version)
        if fingerprint(source) == version:
            _tell_sensitive(checked.catalog.catalog_id, sensitive_uses(checked))
            return Published(path, version, checked.catalog.catalog_id, compiled=True)
    problem = Problem(str(source), None, "", "changes while it is read", "move a finished document into place instead")
    raise CatalogError([problem])


def _tell_sensitive(catalog_id: str, uses: Iterable[Mapping[str, Any]]) -> None:
    for use in uses:
        log.warning("sensitive_attribute_used", catalog=catalog_id, **use)


def prune(data_dir: Path, keep: Iterable[Path]) -> None:
    """Remove snapshots that nobody has published or kept for KEPT_S, and drafts that were never finished.

    `keep` are the snapshots being served: kept, and marked as in use for other servers with the same folder.
    """
    for path in keep:
        with contextlib.suppress(OSError):
            os.utime(path)
    for path in (data_dir / "snapshots").glob("*"):
        with contextlib.suppress(OSError):
            if path.is_dir() and time.time() - path.stat().st_mtime > KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


def fingerprint(source: Path) -> str:
    """16 hexadecimal digits: the same for the same content, names, snapshot format and time zone data."""
    digest = hashlib.sha256(f"{snapshot.FORMAT} {_zone_data()}".encode())
    for path in files(source, []):
        digest.update(f"\0{path.name if path == source else path.relative_to(source)}\0".encode())
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            problem = Problem(str(path), None, "", reason, "check the path and its permissions")
            raise CatalogError([problem]) from error
    return digest.hexdigest()[:16]


@cache
def _zone_data() -> str:
    """Names the data that positions, clocks and holidays are read from."""
    versions = [version_of(package) for package in ("tzdata", "tzfpy", "opening-hours-py")]
    for folder in map(Path, zoneinfo.TZPATH):  # the machine's own zones come before the package's
        for name in ("tzdata.zi", "+VERSION"):
            with contextlib.suppress(OSError), (folder / name).open(encoding="ascii") as file:
                versions.append(file.readline().strip())
    return " ".join(versions)


def stamp(source: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when a document is edited, without reading it: names, times, sizes and inodes of its files."""
    found = []
    for path in files(source, []):
        try:
            status = path.stat()
        except OSError:
            continue  # gone meanwhile: that it is missing tells the change
        found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
