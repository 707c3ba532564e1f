"""Catalogue documents: files and folders of .yaml, .json and .binpb files, read as a stream of Catalog messages."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from offers.catalogue.document import nodes
from offers.catalogue.document.messages import build
from offers.errors import Problem
from offers.files import open_regular
from offers.v1.catalog_pb2 import Catalog

SUFFIXES = (".yaml", ".yml", ".json", ".binpb")
"""Suffixes of the files that are read, in lower or upper case."""
MAX_FRAGMENT_BYTES = 64 * 2**20
"""Largest text file, or record of a .binpb file, that is read. One at a time is held in memory."""

_RECORD_ITEMS = 1_000
"""Messages of a list in one record, so that readers need little memory."""
_MAX_VARINT_BYTES = 10
_MOST_LENGTH_BITS = 35
_LENGTH_DELIMITED = 2
"""Wire type of texts and messages. Together with a field number below 16 it makes a key of one byte."""
_OFFERS = Catalog.OFFERS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_SPLIT_FIX = "split it into several files, or write a .binpb file of many records"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a catalogue: a whole text file, or one record of a .binpb file."""

    catalog: Catalog
    file: str
    line_of: Callable[[nodes.Path], int | None]
    """Returns the line, from 1, of the value at a path, or of the nearest value around it; None in a .binpb file."""
    label: str
    """Prefix of paths in problems: "record 12: ", counted from 1, in a .binpb file, else ""."""
    left_out: frozenset[nodes.Path]
    """Paths of the values that could not be read and that `catalog` lacks. Each is reported in `problems` already."""

    def problem(self, path: nodes.Path, reason: str, fix: str) -> Problem:
        """Return the problem of a fault at a path."""
        return Problem(self.file, self.line_of(path), self.label + nodes.dotted(path), reason, fix)


def read(source: Path, problems: list[Problem], *, offers: bool = True, unknown: bool = True) -> Iterator[Fragment]:
    """Read a file, or the files of a folder and its subfolders in the order of their paths, one fragment at a time.

    Records are read faster without `offers`, which are then left out where that is easy, and without the search for
    fields that are `unknown` to this version. In a folder, names that begin with a dot and other suffixes than SUFFIXES
    are skipped.

    Raises nothing. Whatever cannot be read is left out and, by the time the stream ends, reported in `problems`. A
    problem with an empty field means that the document, or the rest of it from a line on, is missing.
    """
    for path in files(source, problems):
        try:
            if path.suffix.lower() == ".binpb":
                yield from _read_records(path, problems, offers=offers, unknown=unknown)
            else:
                yield from _read_text(path, problems)
        except OSError as error:
            problems.append(unreadable(path, error))


def unreadable(path: Path, error: OSError) -> Problem:
    """Return the problem of a file or folder that cannot be read."""
    reason = f"cannot be read: {error.strerror or error}"
    return Problem(str(path), None, "", reason, "check the path and its permissions")


def files(source: Path, problems: list[Problem]) -> Iterator[Path]:
    """Yield the files of a document in order. Faults of the source itself are added to `problems`."""
    try:
        is_folder = source.is_dir()
        source.stat()
    except (OSError, ValueError) as error:
        error = error if isinstance(error, OSError) else OSError(str(error))
        problems.append(unreadable(source, error))
        return
    if is_folder:
        found = _walk(source, problems)
        if not found:
            fix = "add a .yaml, .json or .binpb file"
            problems.append(Problem(str(source), None, "", "the folder has no catalogue document", fix))
        yield from found
    elif source.suffix.lower() not in SUFFIXES:
        reason = f"'{source.suffix}' is not the suffix of a catalogue document"
        problems.append(Problem(str(source), None, "", reason, "name it .yaml, .json or .binpb after what it holds"))
    else:
        yield source


def _walk(folder: Path, problems: list[Problem]) -> list[Path]:
    found: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: problems.append(unreadable(Path(error.filename), error)))
    for parent, folders, names in walk:
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in SUFFIXES]
    return sorted(found)


def _read_text(path: Path, problems: list[Problem]) -> Iterator[Fragment]:
    file = str(path)

    def report(line: int | None, reason: str, fix: str) -> None:
        problems.append(Problem(file, line, "", reason, fix))

    with open_regular(path) as stream:
        data = stream.read(MAX_FRAGMENT_BYTES + 1)
    if len(data) > MAX_FRAGMENT_BYTES:
        report(None, f"is larger than {MAX_FRAGMENT_BYTES // 2**20} MiB", _SPLIT_FIX)
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        report(line, f"the byte 0x{data[error.start]:02X} is not UTF-8", "save the file as UTF-8")
        return
    try:
        root = nodes.read_json(text) if path.suffix.lower() == ".json" else nodes.read_yaml(text, report)
    except nodes.DocumentSyntaxError as error:
        report(error.line, error.reason, error.fix)
        return
    if root is None or (isinstance(root, nodes.Scalar) and root.empty):
        report(None, "the document is empty", "write the fields of a Catalog, beginning with catalog_id")
    elif not isinstance(root, nodes.Mapping):
        report(root.line, "the document is not a map", "write the fields of a Catalog, beginning with catalog_id")
    else:
        catalog = Catalog()
        built = build(root, catalog)
        problems += [
            Problem(file, fault.line, nodes.dotted(fault.path), fault.reason, fault.fix) for fault in built.faults
        ]
        yield Fragment(catalog, file, partial(nodes.line_of, root), "", frozenset(built.left_out))


def _read_records(path: Path, problems: list[Problem], *, offers: bool, unknown: bool) -> Iterator[Fragment]:
    file = str(path)
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        number = 0
        while (start := stream.tell()) < size:
            number += 1
            length = _read_varint(stream)
            if length is None or length > size - stream.tell():
                reason = f"record {number} at byte {start} is cut off, or this is not a stream of records"
                fix = "write the file again: each record is a Catalog message after its length as a varint"
                problems.append(Problem(file, None, "", reason, fix))
                return
            if length > MAX_FRAGMENT_BYTES:
                reason = f"record {number} is larger than {MAX_FRAGMENT_BYTES // 2**20} MiB"
                problems.append(Problem(file, None, "", reason, "write records of about 1,000 offers each"))
                stream.seek(length, os.SEEK_CUR)
                continue
            catalog = Catalog()
            try:
                record = stream.read(length) if offers else _without_offers(stream.read(length))
                catalog.ParseFromString(record)
            except DecodeError:
                reason = f"record {number} at byte {start} is not a Catalog message"
                problems.append(Problem(file, None, "", reason, "write the file again from its source"))
            else:
                if unknown and _forget_unknown(catalog, record):
                    reason = f"record {number} at byte {start} has fields that this version does not know"
                    problems.append(Problem(file, None, "", reason, "write it with this version's protos"))
                yield Fragment(catalog, file, _no_line, f"record {number}: ", frozenset())
        if not number:
            problems.append(Problem(file, None, "", "the document is empty", "write at least one Catalog message"))


def _forget_unknown(catalog: Catalog, record: bytes) -> bool:
    """Remove the fields that this version does not know, and return whether there were any."""
    catalog.DiscardUnknownFields()
    size = catalog.ByteSize()
    # Nothing was removed if the size is as before. Other encoders may write more bytes than protobuf does.
    return size != len(record) and size != Catalog.FromString(record).ByteSize()


def _without_offers(record: bytes) -> bytes:
    """Return a record without its offers, or the record itself if its encoding is unusual."""
    kept, at, size = [], 0, len(record)
    while at < size:
        first, key = at, record[at]
        at += 1
        length = shift = 0
        while at < size:
            byte = record[at]
            length |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if byte < 0x80:
                break
        at += length
        if key & 0x87 != _LENGTH_DELIMITED or at > size or shift > _MOST_LENGTH_BITS:
            return record
        if key != _OFFERS:
            kept.append(record[first:at])
    return b"".join(kept)


def _no_line(_path: nodes.Path) -> None:
    """Return None: records have no lines."""


def _read_varint(stream: BinaryIO) -> int | None:
    """Read a varint; return None if the stream ends in it, or if it is too long."""
    number = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            return None
        number |= (byte[0] & 0x7F) << 7 * index
        if byte[0] < 0x80:
            return number
    return None


def write_fragments(path: Path, catalogs: Iterable[Catalog]) -> int:
    """Write a .binpb file with a record for each catalogue, and return the number of records. Raises OSError."""
    number = 0
    with path.open("wb") as stream:
        for catalog in catalogs:
            data = catalog.SerializeToString(deterministic=True)
            stream.write(varint(len(data)) + data)
            number += 1
    return number


def varint(number: int) -> bytes:
    """Encode a number, 0 or more, as a varint: 7 bits a byte, the least significant first."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def write_document(path: Path, catalog: Catalog) -> None:
    """Write a catalogue in the format of the path's suffix: .yaml, .yml, .json or .binpb.

    Raises OSError, and ValueError for another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: name it .yaml, .json or .binpb")
    if suffix == ".binpb":
        write_fragments(path, _records(catalog))
        return
    content: dict[str, Any] = MessageToDict(catalog, preserving_proto_field_name=True)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        if suffix == ".json":
            json.dump(content, stream, ensure_ascii=False, indent=2)
            stream.write("\n")
        else:
            yaml.dump(content, stream, Dumper=_YAML_DUMPER, allow_unicode=True, sort_keys=False, width=10_000)


_YAML_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _records(catalog: Catalog) -> Iterator[Catalog]:
    """Split a catalogue into records: its single values, then each list in parts of a thousand elements."""
    single: dict[str, Any] = {}
    lists: list[tuple[str, Any]] = []
    for described, value in catalog.ListFields():
        if isinstance(value, (str, float, int, Message)):
            single[described.name] = value
        else:
            lists.append((described.name, value))
    yield Catalog(**single)
    for name, elements in lists:
        for start in range(0, len(elements), _RECORD_ITEMS):
            record = Catalog()
            getattr(record, name).extend(elements[start : start + _RECORD_ITEMS])
            yield record
