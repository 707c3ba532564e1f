"""Directories of arrays with a manifest of checksums: written completely or not at all, and opened by memory map."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from offers.errors import SnapshotError

_MANIFEST = "manifest.json"


class DirectoryKind(NamedTuple):
    """A kind of directory, such as a snapshot or a model."""

    name: str
    format: int
    """Format version. It changes whenever arrays change shape or meaning, so that no version reads another's files."""
    mend: str
    """The remedy for a directory that cannot be read, for error messages."""


@contextlib.contextmanager
def drafting(folder: Path, prefix: str) -> Iterator[Path]:
    """Create a directory in a folder, and remove it when the context ends unless it was moved."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_array(file: Path, array: NDArray[Any]) -> str:
    """Write an array durably and return its digest for the manifest."""
    with file.open("wb") as opened:
        np.save(opened, array, allow_pickle=False)
        opened.flush()
        os.fsync(opened.fileno())
    return _digest(file)


def seal(draft: Path, kind: DirectoryKind, body: Mapping[str, Any]) -> str:
    """Write the manifest of a draft durably and return its checksum. `body["files"]` are the digests of its files."""
    body = {"format": kind.format, **body}
    checksum = _checksum(body)
    with (draft / _MANIFEST).open("wb") as file:
        file.write(orjson.dumps({**body, "checksum": checksum}, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o755)
    return checksum


def publish(draft: Path, path: Path, open_it: Callable[[Path], object]) -> None:
    """Move a sealed draft to `path` durably, unless `open_it` succeeds on a directory that is there already."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(SnapshotError):
            open_it(path)
            return
        shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(path: Path, kind: DirectoryKind) -> tuple[dict[str, Any], str, int]:
    """Return a directory's manifest, its checksum, and its size in bytes. Raises SnapshotError with the fault."""
    file = path / _MANIFEST
    try:
        content = file.read_bytes()
        manifest = orjson.loads(content)
    except FileNotFoundError:
        message = f"{path} is no {kind.name}: it has no manifest.json"
        raise SnapshotError(message) from None
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{path}/manifest.json cannot be read: {error}"
        raise SnapshotError(message) from error
    if not isinstance(manifest, dict) or manifest.get("format") != kind.format:
        message = f"{path} has another format than {kind.format}: {kind.mend}"
        raise SnapshotError(message)
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        message = f"{path}/manifest.json is damaged: {kind.mend}"
        raise SnapshotError(message)
    return manifest, checksum, len(content)


def open_array(file: Path, files: Mapping[str, str], kind: DirectoryKind) -> tuple[NDArray[Any], int]:
    """Map an array into memory, compare its digest with the manifest, and return it with its size in bytes.

    Raises SnapshotError.
    """
    try:
        if _digest(file) != files[file.name]:
            message = f"{file} is damaged: {kind.mend}"
            raise SnapshotError(message)
        # A plain array over the memory map, because compiled loops take no subclasses.
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)), file.stat().st_size
    except (OSError, ValueError, KeyError) as error:
        message = f"{file} cannot be read ({error}): {kind.mend}"
        raise SnapshotError(message) from error


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()
