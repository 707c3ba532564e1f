"""Publish a document as a snapshot in the data folder, compiled only when its content has changed."""

import contextlib
import hashlib
import os
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
from offers.catalogue.document import files, unreadable
from offers.errors import CatalogError, Problem, SnapshotError
from offers.files import open_regular

ATTEMPTS = 3
"""Attempts to compile a document that changes while it is read."""
_BLOCK = 1 << 20

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Published(NamedTuple):
    """A snapshot on disk."""

    path: Path
    version: str
    catalog_id: str
    compiled: bool
    """False: it existed already."""


def publish(source: Path, data_dir: Path) -> Published:
    """Compile the document `source` into `data_dir`/snapshots, unless a snapshot of its content exists.

    Raises CatalogError with every problem of the document; earlier snapshots are untouched.
    Logs each use of sensitive attributes.
    """
    for _ in range(ATTEMPTS):
        version = fingerprint(source)
        path = data_dir / "snapshots" / version
        try:
            meta = snapshot.verify_snapshot(path)
            with contextlib.suppress(OSError):  # a read-only folder is good enough
                os.utime(path)
            _log_sensitive(meta["catalog_id"], meta["sensitive_uses"])
            return Published(path, version, meta["catalog_id"], compiled=False)
        except SnapshotError:
            checked = compile_snapshot(source, path, version)
        if fingerprint(source) == version:
            _log_sensitive(checked.catalog.catalog_id, sensitive_uses(checked))
            return Published(path, version, checked.catalog.catalog_id, compiled=True)
    problem = Problem(str(source), None, "", "changes while it is read", "move a finished document into place instead")
    raise CatalogError([problem])


def _log_sensitive(catalog_id: str, uses: Iterable[Mapping[str, Any]]) -> None:
    for use in uses:
        log.warning("sensitive_attribute_used", catalog=catalog_id, **use)


def fingerprint(source: Path) -> str:
    """Return 16 hexadecimal digits that identify the content, file names, snapshot format and time zone data."""
    digest = hashlib.sha256(f"{snapshot.FORMAT} {_zone_data()}".encode())
    for path in files(source, []):
        digest.update(f"\0{path.name if path == source else path.relative_to(source)}\0".encode())
        try:
            with open_regular(path) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise CatalogError([unreadable(path, error)]) from error
    return digest.hexdigest()[:16]


@cache
def _zone_data() -> str:
    """Return the versions of the data that time zones, clocks and holidays are read from."""
    versions = [version_of(package) for package in ("tzdata", "tzfpy", "opening-hours-py", "holidays")]
    for folder in map(Path, zoneinfo.TZPATH):  # the machine's zone data has priority over the package's
        for name in ("tzdata.zi", "+VERSION"):
            with contextlib.suppress(OSError), (folder / name).open(encoding="ascii") as file:
                versions.append(file.readline().strip())
    return " ".join(versions)
