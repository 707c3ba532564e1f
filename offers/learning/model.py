"""A published model: a directory of named arrays and a manifest, used as a verified copy in memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from offers.directories import DirectoryKind, drafting, publish, read, seal, verify, write_array

FORMAT = 3
_KIND = DirectoryKind("model", FORMAT, "learn the model again")
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Model:
    """One saved state of what was learned. Immutable, and safe to share between threads and processes."""

    path: Path
    version: str
    """16 hexadecimal digits, the same for the same arrays and meta."""
    arrays: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any]
    """All that is not an array, such as the definition of features."""
    size: int
    """Bytes on disk."""


def write_model(folder: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Path:
    """Write a model atomically to the directory of its version in `folder`, and return that directory.

    Names of arrays consist of a-z, 0-9, `_`, `.` and `-`; `meta` is what JSON can hold. If the version exists already,
    it stays.
    """
    with drafting(folder, ".draft-") as draft:
        files = {}
        for name, array in sorted(arrays.items()):
            if not _NAME.fullmatch(name):
                message = f"{name!r} cannot be the name of an array: write a-z, 0-9, _, . and -"
                raise ValueError(message)
            files[f"{name}.npy"] = write_array(draft / f"{name}.npy", array)
        path = folder / _version(seal(draft, _KIND, {"meta": meta, "files": files}))
        publish(draft, path, lambda there: verify(there, _KIND))
        return path


def open_model(path: Path) -> Model:
    """Copy a model into memory of this process and verify its checksums. Raises SnapshotError with the reason."""
    manifest, checksum, arrays, size = read(path, _KIND)
    return Model(path, _version(checksum), arrays, manifest["meta"], size)


def _version(checksum: str) -> str:
    return checksum[:16]
