"""Directories of arrays with a manifest of checksums: written completely or not at all, and read into memory.

Arrays in use are never those of the files: a file may be cut short, which kills whoever has mapped it. They are copies,
verified as they are made, in memory of one process or in sealed memory that many processes map.
"""

import contextlib
import errno
import fcntl
import hashlib
import math
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from offers.errors import SnapshotError
from offers.files import open_regular, read_regular

_MANIFEST = "manifest.json"
_ARRAY = ".npy"
_BLOCK = 1 << 20
_ALIGNED = 64
"""Bytes of a cache line: arrays begin at a multiple."""
_LENGTH = struct.Struct("<Q")
_HEADER_MOST = 1 << 17
"""Bytes of an array's file that hold its header: ten thousand are the most that numpy reads."""
_Put = Callable[[int, bytes], None]
_SEALS = (
    fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    if hasattr(fcntl, "F_SEAL_SEAL")
    else 0
)


class DirectoryKind(NamedTuple):
    """A kind of directory, such as a snapshot or a model."""

    name: str
    format: int
    """Format version. It changes whenever arrays change shape or meaning, so that no version reads another's files."""
    mend: str
    """The remedy for a directory that cannot be read, for error messages."""


class Content(NamedTuple):
    """The content of a directory in memory that does not change."""

    manifest: dict[str, Any]
    checksum: str
    arrays: dict[str, NDArray[Any]]
    """The arrays by name, without the suffix of their files."""
    size: int
    """Bytes of the arrays and the manifest on disk."""


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
        try:
            np.save(opened, array, allow_pickle=False)
        except OSError as error:
            if error.errno is None:  # NumPy tells only how many values were not written
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error
            raise
    return flush(file)


def flush(file: Path) -> str:
    """Have a file on the disk, and return its digest for the manifest."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        return hashlib.file_digest(opened, "sha256").hexdigest()


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


def publish(draft: Path, path: Path, verify_it: Callable[[Path], object]) -> None:
    """Move a sealed draft to `path` durably, unless `verify_it` succeeds on a directory that is there already."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(SnapshotError):
            verify_it(path)
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        draft.rename(path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify(path: Path, kind: DirectoryKind) -> dict[str, Any]:
    """Compare every file of a directory with its digest, and return the manifest. Raises SnapshotError."""
    manifest, _ = _parsed(_manifest_of(path, kind), path, kind)
    for name, digest in manifest["files"].items():
        _copy(path / name, digest, kind, lambda _offset, _block: None)
    return manifest


def read(path: Path, kind: DirectoryKind, memory: int | None = None) -> Content:
    """Copy the manifest and the arrays of a directory, and compare each array with its digest.

    They are copied into the empty `memory` of `files.new_memory`, which is sealed then; without it, into memory of this
    process. Raises SnapshotError with the fault.
    """
    content = _manifest_of(path, kind)
    manifest, _ = _parsed(content, path, kind)
    digests = {name: digest for name, digest in manifest["files"].items() if name.endswith(_ARRAY)}
    sizes = {}
    for name in digests:
        with _faults_of(path / name, kind):
            sizes[name] = (path / name).stat().st_size
    head, offsets, end = _places({_MANIFEST: len(content), **sizes})
    with _faults_of(path, kind):
        put = _private(own := mmap.mmap(-1, end)) if memory is None else _shared(memory, end)
        put(0, head)
        put(offsets[_MANIFEST], content)
    for name, digest in digests.items():
        _copy(path / name, digest, kind, put, offsets[name], sizes[name])
    if memory is None:
        return _content(memoryview(own).toreadonly(), path, kind)
    with _faults_of(path, kind):
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    return map_memory(memory, path, kind)


def map_memory(memory: int, path: Path, kind: DirectoryKind) -> Content:
    """Map the sealed memory that `read` has filled from the directory `path`. Raises SnapshotError."""
    with _faults_of(path, kind):
        mapped = mmap.mmap(memory, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)  # Linux < 6.7 refuses MAP_SHARED
    return _content(memoryview(mapped), path, kind)


def _places(sizes: Mapping[str, int]) -> tuple[bytes, dict[str, int], int]:
    """Return the head of memory that holds files of these sizes, the offset of each, and the size of it all.

    The head has its length, and as JSON the offset of each file after the head and its size.
    """
    index, end = {}, 0
    for name, size in sizes.items():
        index[name] = end, size
        end = _aligned(end + size)
    head = orjson.dumps(index)
    first = _aligned(_LENGTH.size + len(head))
    offsets = {name: first + offset for name, (offset, _) in index.items()}
    return _LENGTH.pack(len(head)) + head, offsets, first + end


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNED) * _ALIGNED


def _content(memory: memoryview, path: Path, kind: DirectoryKind) -> Content:
    """Return what memory holds: arrays over it, without a copy."""
    with _faults_of(path, kind):
        (length,) = _LENGTH.unpack_from(memory)
        first = _aligned(_LENGTH.size + length)
        index: dict[str, tuple[int, int]] = orjson.loads(memory[_LENGTH.size : _LENGTH.size + length])
        parts = {name: memory[first + offset :][:size] for name, (offset, size) in index.items()}
        manifest, checksum = _parsed(bytes(parts.pop(_MANIFEST)), path, kind)
    arrays = {}
    for name, part in parts.items():
        with _faults_of(path / name, kind):
            arrays[name.removesuffix(_ARRAY)] = _array(part)
    return Content(manifest, checksum, arrays, sum(size for _, size in index.values()))


def _array(file: memoryview) -> NDArray[Any]:
    """Return the array of a file's content, without a copy."""
    begin = BytesIO(file[:_HEADER_MOST])
    is_long = np.lib.format.read_magic(begin) != (1, 0)
    header = np.lib.format.read_array_header_2_0 if is_long else np.lib.format.read_array_header_1_0
    shape, is_fortran, kind = header(begin)
    return np.ndarray(shape, kind, file, begin.tell(), order="F" if is_fortran else "C")


def _private(memory: mmap.mmap) -> _Put:
    def put(offset: int, block: bytes) -> None:
        memory[offset : offset + len(block)] = block

    return put


def _shared(memory: int, size: int) -> _Put:
    def put(offset: int, block: bytes) -> None:
        if os.pwrite(memory, block, offset) != len(block):
            raise OSError("there is no more memory")

    os.ftruncate(memory, size)
    return put


def _copy(file: Path, digest: str, kind: DirectoryKind, put: _Put, offset: int = 0, size: float = math.inf) -> None:
    """Hand the first `size` bytes of a file on, with their offsets, and compare them with their digest."""
    found, end = hashlib.sha256(), offset + size
    with _faults_of(file, kind), open_regular(file) as opened:
        while block := opened.read(int(min(_BLOCK, end - offset))):
            found.update(block)
            put(offset, block)
            offset += len(block)
    if found.hexdigest() != digest:
        message = f"{file} is damaged: {kind.mend}"
        raise SnapshotError(message)


@contextlib.contextmanager
def _faults_of(file: Path, kind: DirectoryKind) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, struct.error) as error:
        message = f"{file} cannot be read ({error}): {kind.mend}"
        raise SnapshotError(message) from error


def _manifest_of(path: Path, kind: DirectoryKind) -> bytes:
    """Return the content of a directory's manifest."""
    try:
        return read_regular(path / _MANIFEST)
    except FileNotFoundError:
        message = f"{path} is no {kind.name}: it has no {_MANIFEST}"
        raise SnapshotError(message) from None
    except OSError as error:
        message = f"{path}/{_MANIFEST} cannot be read ({error}): {kind.mend}"
        raise SnapshotError(message) from error


def _parsed(content: bytes, path: Path, kind: DirectoryKind) -> tuple[dict[str, Any], str]:
    """Return a manifest and its checksum."""
    with _faults_of(path / _MANIFEST, kind):
        manifest = orjson.loads(content)
    if not isinstance(manifest, dict) or manifest.get("format") != kind.format:
        message = f"{path} has another format than {kind.format}: {kind.mend}"
        raise SnapshotError(message)
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest) or not isinstance(manifest.get("files"), dict):
        message = f"{path}/{_MANIFEST} is damaged: {kind.mend}"
        raise SnapshotError(message)
    return manifest, checksum


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()
