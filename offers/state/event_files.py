"""Files of events: lines of JSON, or one JSON document over several lines; read one by one, each fault on its own.

A line, and a document, is a CloudEvent, a call of Segment's Spec, or a batch of them: a list, as in
application/cloudevents-batch+json, or an object with the list "batch", as Segment's batch calls.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import structlog

from offers.model.json_messages import read_json, shown, unfit
from offers.state import cloudevents, tracked
from offers.state.tracked import Identified, PassedOver
from offers.telemetry.logs import log_failure
from offers.v1.event_pb2 import Event

MAX_LINE_BYTES = 64 << 20
"""Longest line or document: far more than a server takes in at once, and little enough to be kept in memory."""
DEFECT = "cannot be read because of a defect of offers, which the log on stderr describes: please report it"
_BATCH = "batch"
_SHARED = ("context", "sentAt")
"""Fields of a batch call that hold for its calls where these do not have them."""
_OPENINGS = (b"[", b"{")

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Entry(NamedTuple):
    """An event, a call, or a fault."""

    place: str
    """The number of its line, from 1, and its index in a batch, from 0: "12", "12: batch[3]", "12: [3]"."""
    made: Event | Identified | PassedOver | None
    """None: it cannot be used."""
    fault: str = ""


class EventFile:
    """A file of events, which is read once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead = BytesIO()
        """Bytes of the file that were read in search of the end of a document."""
        self.done = 0
        """Bytes taken up so far."""

    def entries(self) -> Iterator[Entry]:
        """Yield the events, calls and faults of the file, in order."""
        is_first = True
        for number, line in enumerate(iter(self._line, b""), 1):
            if not line.strip():
                continue
            whole = self._document(line) if is_first else b""
            is_first = False
            if len(whole or line) > MAX_LINE_BYTES:
                yield Entry(str(number), None, f"has more than {MAX_LINE_BYTES >> 20} MiB: write one event to a line")
            else:
                yield from _entries(str(number), whole or line)
            if whole:
                return

    def _line(self) -> bytes:
        """Read a line; of one that is too long, a little more than MAX_LINE_BYTES. b"": the file is at its end."""
        line = self._ahead.readline()
        if not line.endswith(b"\n"):
            line += self._file.readline(MAX_LINE_BYTES + 1)
        self.done += len(line)
        part = line
        while len(line) > MAX_LINE_BYTES and part and not part.endswith(b"\n"):
            part = self._file.readline(MAX_LINE_BYTES)
            self.done += len(part)
        return line

    def _document(self, line: bytes) -> bytes:
        """Return the whole file where its first line only begins a document; b"": it is a file of lines."""
        text = line.removeprefix(BOM_UTF8).strip()
        if not text.startswith(_OPENINGS) or _is_json(line):
            return b""
        rest = self._file.read(MAX_LINE_BYTES)
        if text in _OPENINGS or _is_json(line + rest):
            self.done += len(rest)
            return line + rest
        self._ahead = BytesIO(rest)
        return b""


def _is_json(text: bytes) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def _entries(place: str, text: bytes) -> Iterator[Entry]:
    """Yield the entries of a line or document."""
    try:
        value = read_json(text.strip())
        if not isinstance(value, dict | list):
            raise ValueError(f"is no object: {shown(value)}")  # noqa: TRY004, TRY301 - a fault of the file, as the others
        parts = _batch(value)
    except ValueError as error:
        yield Entry(place, None, str(error))
        return
    if parts is None:
        yield _entry(place, value)
    else:
        name = "" if isinstance(value, list) else _BATCH
        for index, part in enumerate(parts):
            yield _entry(f"{place}: {name}[{index}]", part)


def _batch(value: dict[str, Any] | list[Any]) -> list[Any] | None:
    """Return the events or calls of a batch; None for anything else. Raises ValueError."""
    if isinstance(value, list):
        parts = value
    elif value.get(_BATCH) is None or not {"type", "specversion"}.isdisjoint(value):
        return None
    elif isinstance(value[_BATCH], list):
        shared = {name: value[name] for name in _SHARED if value.get(name) is not None}
        parts = [_with(shared, part) for part in value[_BATCH]]
    else:
        raise unfit(_BATCH, value[_BATCH], "is no list")
    if not parts:
        message = "is an empty batch, and no object"
        raise ValueError(message)
    return parts


def _with(shared: Mapping[str, Any], part: object) -> object:
    """Return a call with the fields of its batch that it does not have, also within its context."""
    if not isinstance(part, dict):
        return part
    own = {name: value for name, value in part.items() if value is not None}
    both = [fields["context"] for fields in (shared, own) if isinstance(fields.get("context"), dict)]
    merged = {"context": both[0] | both[1]} if len(both) > 1 else {}
    return {**shared, **own, **merged}


def _entry(place: str, value: object) -> Entry:
    """Read an event or a call. Whatever goes wrong is its own fault, and loses no other."""
    try:
        if not isinstance(value, dict):
            return Entry(place, None, f"is no object: {shown(value)}")
        return Entry(place, cloudevents.imported(value) if "specversion" in value else tracked.read(value))
    except ValueError as error:
        return Entry(place, None, str(error))
    except Exception as error:  # noqa: BLE001 - a defect here must not stop the import
        log_failure(log, "event_not_read", error, place=place)
        return Entry(place, None, DEFECT)
