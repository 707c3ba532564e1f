"""Mapping files: the options of the CSV, the lookup tables, and the trees of the catalogue and its rows."""

import codecs
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from offers.catalogue.importing.encodings import first_byte_outside
from offers.errors import Problem

MAX_NODES = 20_000
"""Most elements of a mapping with its aliases expanded: more is a mistake, or an alias that contains itself."""
MAX_DEPTH = 40
"""Most levels of a mapping, well above the depth of the messages."""

KINDS = ("venue", "zone", "offer")
"""The messages a row can become, in lower case."""

_CSV_OPTIONS = ("encoding", "delimiter", "null_values", "columns")

Entries = dict[str, tuple[Node, Node]]
"""The key node and value node of each entry of a YAML map, by the text of the key."""


@dataclass(slots=True)
class MappingReport:
    """The problems of a mapping file, and the lines of its elements."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def add(self, node: Node | None, path: str, reason: str, fix: str) -> None:
        """Report a problem of the element at `path`, on the line of `node`."""
        line = None if node is None else node.start_mark.line + 1
        self.problems.append(Problem(self.file, line, path, reason, fix))

    def unknown(self, node: Node | None, path: str, name: str, known: Sequence[str], what: str) -> None:
        """Report that `name` is not one of `known`, with the one that was probably meant."""
        near = get_close_matches(name, known, n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(known) or '(there is none)'}"
        self.add(node, path, f"{name!r} is not {what}", fix)

    def entries(self, node: Node, path: str) -> Entries | None:
        """Return the entries of a YAML map; for any other node report a problem and return None."""
        if not isinstance(node, MappingNode):
            self.add(node, path, "this must be a map", "write 'name: value' entries")
            return None
        entries: Entries = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.add(key, path, "a key must be a word", 'put templates in quotes: "{COLUMN}"')
            elif key.value in entries:
                self.add(key, path, f"{key.value!r} is written twice", "remove one of the two")
            else:
                entries[key.value] = (key, value)
                self.lines.setdefault(f"{path}.{key.value}" if path else key.value, key.start_mark.line + 1)
        return entries

    def text(self, node: Node, path: str) -> str | None:
        """Return the text of a scalar as it is written; without one report a problem and return None."""
        if isinstance(node, ScalarNode) and node.value and node.tag != "tag:yaml.org,2002:null":
            return str(node.value)
        fix = 'put templates in quotes: "{COLUMN}"' if isinstance(node, MappingNode) else "write one, or leave it out"
        self.add(node, path, "this must be a single value", fix)
        return None

    def texts(self, node: Node, path: str) -> tuple[str, ...]:
        """Return the texts of a list, which may include the empty text."""
        if not isinstance(node, SequenceNode) or not all(isinstance(item, ScalarNode) for item in node.value):
            self.add(node, path, "this must be a list of values", "write it as [first, second]")
            return ()
        return tuple(str(item.value) for item in node.value)


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """The format of CSV files."""

    encoding: str = "utf-8-sig"
    delimiter: str = ","
    null_values: frozenset[str] = frozenset({""})
    """Cells that mean "no value"."""
    columns: tuple[str, ...] = ()
    """Column names of a file without a header row; empty: the first row is the header."""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """A lookup table."""

    file: Path | None
    """None: the caller must give it."""
    key: str
    """The column by which rows are looked up."""
    csv: CsvOptions
    """Its format; options that are not set are those of the imported file."""


@dataclass(frozen=True, slots=True)
class Sections:
    """The parts of a mapping file. A part that is missing or faulty is None."""

    csv: CsvOptions
    tables: Mapping[str, TableOptions]
    catalog: Node | None
    kinds: Mapping[str, Node]
    """The tree of each message a row becomes, at least one, by name and in the order of KINDS."""


def read(path: Path, report: MappingReport) -> Sections | None:
    """Read a mapping file as far as possible, and report every problem."""
    root = _compose(path, report)
    if root is None or _oversized(root, report):
        return None
    entries = report.entries(root, "")
    if entries is None:
        return None
    known = ("csv", "tables", "catalog", *KINDS)
    for name, (key, _) in entries.items():
        if name not in known:
            report.unknown(key, name, name, known, "a part of a mapping")
    if "catalog" not in entries:
        report.add(root, "catalog", "the mapping has no 'catalog'", "add it: it mirrors the message of that name")
    kinds = {name: entries[name][1] for name in KINDS if name in entries}
    if not kinds:
        fix = "add what a row becomes: each mirrors the message of that name"
        report.add(root, "offer", "the mapping has no 'offer', 'venue' or 'zone'", fix)
    parts = {name: report.entries(entries[name][1], name) or {} for name in ("csv", "tables") if name in entries}
    csv_entries = parts.get("csv", {})
    _only(csv_entries, "csv", _CSV_OPTIONS, "an option of csv", report)
    options = _csv_options(csv_entries, "csv", CsvOptions(), report)
    return Sections(
        csv=options,
        tables=_tables(parts.get("tables", {}), path.parent, options, report),
        catalog=entries["catalog"][1] if "catalog" in entries else None,
        kinds=kinds,
    )


def _compose(path: Path, report: MappingReport) -> Node | None:
    try:
        root: Node | None = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        report.add(None, "", f"cannot be read: {error.strerror}", "give the path of a mapping file")
    except UnicodeDecodeError as error:
        reason = f"is not text in the encoding UTF-8: {first_byte_outside(error)[1]}"
        report.add(None, "", reason, "save the mapping in UTF-8")
    except RecursionError as error:
        report.add(None, "", f"is not a YAML text: {error}", "write the mapping as YAML in UTF-8")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = f"is not YAML: {getattr(error, 'problem', None) or error}"
        line = None if mark is None else mark.line + 1
        report.problems.append(Problem(report.file, line, "", reason, "correct the indentation or quotes there"))
    else:
        if root is None:
            report.add(None, "", "the mapping is empty", "write its parts 'catalog' and 'offer'")
        return root
    return None


def _oversized(root: Node, report: MappingReport) -> bool:
    """Return whether a tree is too large or too deep to walk, and report it; an alias may contain itself."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > MAX_NODES or depth > MAX_DEPTH:
            fix = f"keep it under {MAX_NODES:,} elements and {MAX_DEPTH} levels"
            report.add(node, "", "the mapping is too large or too deep, or an alias contains itself", fix)
            return True
        if isinstance(node, MappingNode):
            waiting.extend((child, depth + 1) for entry in node.value for child in entry)
        elif isinstance(node, SequenceNode):
            waiting.extend((child, depth + 1) for child in node.value)
    return False


def _csv_options(entries: Entries, path: str, defaults: CsvOptions, report: MappingReport) -> CsvOptions:
    encoding, delimiter, null_values = defaults.encoding, defaults.delimiter, defaults.null_values
    columns: tuple[str, ...] = ()  # not inherited: a lookup table has columns of its own
    if "encoding" in entries:
        encoding = _encoding(entries["encoding"][1], f"{path}.encoding", report) or encoding
    if "delimiter" in entries:
        delimiter = _delimiter(entries["delimiter"][1], f"{path}.delimiter", report) or delimiter
    if "null_values" in entries:
        null_values = frozenset(report.texts(entries["null_values"][1], f"{path}.null_values")) | {""}
    if "columns" in entries:
        columns = report.texts(entries["columns"][1], f"{path}.columns")
    return CsvOptions(encoding, delimiter, null_values, columns)


def _only(entries: Entries, path: str, known: Sequence[str], what: str, report: MappingReport) -> None:
    for name, (key, _) in entries.items():
        if name not in known:
            report.unknown(key, f"{path}.{name}", name, known, what)


def _delimiter(node: Node, path: str, report: MappingReport) -> str | None:
    text = report.text(node, path)
    try:
        if text is not None:
            csv.reader((), delimiter=text, strict=True)
    except (TypeError, ValueError):
        report.add(node, path, f"{text!r} is not a delimiter", 'write one character, such as ";" or "\\t"')
        return None
    return text


def _encoding(node: Node, path: str, report: MappingReport) -> str | None:
    text = report.text(node, path)
    try:
        if text is not None:
            # A codec that is no text encoding (base64) fails here rather than in the middle of a file.
            "".encode(codecs.lookup(text).name)
    except (LookupError, ValueError):
        report.add(node, path, f"{text!r} is not a text encoding", "write one such as utf-8-sig, cp932 or latin-1")
        return None
    return text


def _tables(entries: Entries, folder: Path, defaults: CsvOptions, report: MappingReport) -> dict[str, TableOptions]:
    tables: dict[str, TableOptions] = {}
    for name, (key, node) in entries.items():
        path = f"tables.{name}"
        options = report.entries(node, path) or {}
        _only(options, path, ("file", "key", *_CSV_OPTIONS), "an option of a table", report)
        file = report.text(options["file"][1], f"{path}.file") if "file" in options else None
        column = report.text(options["key"][1], f"{path}.key") if "key" in options else None
        if "key" not in options:
            report.add(key, path, "the table has no 'key'", "name the column that rows are found by")
        if column is not None:
            own = _csv_options(options, path, defaults, report)
            tables[name] = TableOptions(None if file is None else folder / file, column, own)
    return tables
