"""A published model: a directory of named arrays and a manifest, opened read-only by memory map."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from offers.errors import SnapshotError

FORMAT = 1
"""Raised whenever arrays change shape or meaning, so that no build reads another's files."""
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Model:
    """One published state of what was learned. Safe to share between threads and processes; never changes."""

    path: Path
    version: str
    """16 hexadecimal digits, the same for the same arrays and meta."""
    arrays: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any]
    """What is not an array, such as the definition of features."""
    size: int
    """Bytes on disk."""


def write_model(folder: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Path:
    """Write a model to the directory of its version in `folder`: completely or, whatever happens, not at all.

    Names of arrays consist of a-z, 0-9, `_`, `.` and `-`; `meta` is what JSON can hold. Gives the directory; what is
    there already is as good, and stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    try:
        files = {}
        for name, array in sorted(arrays.items()):
            if not _NAME.fullmatch(name):
                message = f"{name!r} cannot be the name of an array: write a-z, 0-9, _, . and -"
                raise ValueError(message)
            with (draft / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            files[f"{name}.npy"] = _digest(draft / f"{name}.npy")
        body = {"format": FORMAT, "meta": meta, "files": files}
        checksum = _checksum(body)
        with (draft / "manifest.json").open("wb") as file:
            file.write(orjson.dumps({**body, "checksum": checksum}, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o755)
        path = folder / _version(checksum)
        _move(draft, path)
        return path
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def open_model(path: Path) -> Model:
    """Open a model and verify its checksums. Raises SnapshotError saying what is wrong with it."""
    try:
        manifest = orjson.loads((path / "manifest.json").read_bytes())
    except FileNotFoundError:
        message = f"{path} is no model: it has no manifest.json"
        raise SnapshotError(message) from None
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{path}/manifest.json cannot be read: {error}"
        raise SnapshotError(message) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        message = f"{path} has another format than {FORMAT}: learn the model again"
        raise SnapshotError(message)
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        message = f"{path}/manifest.json is damaged: learn the model again"
        raise SnapshotError(message)
    arrays, size = {}, (path / "manifest.json").stat().st_size
    for name, digest in manifest["files"].items():
        file = path / name
        try:
            if _digest(file) != digest:
                message = f"{file} is damaged: learn the model again"
                raise SnapshotError(message)
            # A plain view of the map: compiled loops take no subclasses.
            arrays[name.removesuffix(".npy")] = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
            size += file.stat().st_size
        except (OSError, ValueError) as error:
            message = f"{file} cannot be read ({error}): learn the model again"
            raise SnapshotError(message) from error
    return Model(path, _version(checksum), arrays, manifest["meta"], size)


def _move(draft: Path, path: Path) -> None:
    """Put a finished draft in place, unless a good one is there, and make that survive a power cut."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(SnapshotError):
            open_model(path)
            return
        shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _version(checksum: str) -> str:
    return checksum[:16]
