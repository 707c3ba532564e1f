"""Compile the trees of a mapping file, checked against the schema, into rules that convert rows to messages."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from yaml.nodes import MappingNode, Node, SequenceNode

from offers.catalogue.importing.cells import CellError, converter
from offers.catalogue.importing.mapping import Entries, MappingReport

Row = Mapping[str, str]
"""The cells of a row that have a value, by column name."""
Rule = Callable[[Row], object]
"""Returns the value of an element for a row, or None if it has none; raises RowFaultError."""

_REFERENCE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LOOKUP = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]\.(.+)", re.DOTALL)
_INDEX = re.compile(r"\[\d+\]")
_TIMESTAMP = "google.protobuf.Timestamp"
_MONEY = "google.type.Money"
# google.type marks no field as required, but without these a value would silently be 0.
_REQUIRED_ELSEWHERE = {"google.type.LatLng": ("latitude", "longitude"), _MONEY: ("currency_code", "units")}


class RowFaultError(Exception):
    """A row cannot be converted; `faults` holds (element path, reason) pairs."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{path}: {reason}" for path, reason in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A lookup table: its columns, and its rows by key."""

    columns: tuple[str, ...]
    rows: Mapping[str, Row]


def absent(_: Row) -> None:
    """Return None: the rule of an element that never has a value."""


@dataclass(frozen=True, slots=True)
class _CellReference:
    column: str
    table_name: str = ""
    table: LookupTable | None = None
    table_column: str = ""

    def text(self, row: Row) -> str | None:
        key = row.get(self.column)
        if key is None or self.table is None:
            return key
        found = self.table.rows.get(key)
        if found is None:
            raise CellError(f"{key!r} is not in table {self.table_name!r}")
        return found.get(self.table_column)


@dataclass(frozen=True, slots=True)
class _Template:
    pieces: tuple[str | _CellReference, ...]

    @property
    def constant(self) -> bool:
        return not any(isinstance(piece, _CellReference) for piece in self.pieces)

    def text(self, row: Row) -> str | None:
        """Return the text with all references replaced, or None if one of them has no value."""
        texts: list[str] = []
        for piece in self.pieces:
            text = piece if isinstance(piece, str) else piece.text(row)
            if text is None:
                return None
            texts.append(text)
        return "".join(texts)


@dataclass(frozen=True, slots=True)
class Call:
    """A use of an operator for one element."""

    entries: Entries
    """The operator and its options."""
    field: FieldDescriptor
    """The field of the element in the schema."""
    path: str
    repeated: bool
    """Whether all values of a repeated element are made, and not one of them."""


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the mapping language."""

    compile: Callable[["Compiler", Call], Rule]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    fits: Callable[[Call], bool]
    makes: str
    """The elements it can make, in words."""


class Compiler:
    """Compiles elements of a mapping into rules, and reports every problem, such as unknown columns."""

    def __init__(
        self,
        report: MappingReport,
        columns: Sequence[str] | None,
        tables: Mapping[str, LookupTable],
        operators: Mapping[str, Operator],
        source: str = "CSV file",
    ) -> None:
        """Compile for the columns of a source, or without checking columns if they are None, being unknown."""
        self.report = report
        self._operators = operators
        self._columns = columns
        self._source = source
        self._tables = tables
        self._used: dict[str, set[str]] = {}

    def columns_at(self, path: str) -> tuple[str, ...]:
        """Return the sorted columns from which the element at `path`, its parts and its parents are made."""
        wanted = _INDEX.sub("", path) + "."
        used = (
            columns
            for place, columns in self._used.items()
            if wanted.startswith(f"{place}.") or f"{place}.".startswith(wanted)
        )
        return tuple(sorted(set().union(*used)))

    def message(self, node: Node, descriptor: Descriptor, path: str, without: Sequence[str] = ()) -> Rule:
        """Compile a message written as a map of its elements; `without` are elements that are not allowed.

        A message all of whose elements are absent is absent itself, unless it is written as {}.
        """
        entries = self.report.entries(node, path)
        if entries is None:
            return absent
        children: list[tuple[FieldDescriptor, Rule]] = []
        known = [name for name in descriptor.fields_by_name if name not in without]
        for name, (key, child) in entries.items():
            if name in known:
                field = descriptor.fields_by_name[name]
                # New protobuf versions lack `label`, and old ones `is_repeated`; this works in all.
                repeated = isinstance(field.default_value, list)
                children.append((field, self.value(child, field, f"{path}.{name}", repeated=repeated)))
            else:
                self.report.unknown(key, f"{path}.{name}", name, known, f"an element of {descriptor.name}")
        required = _required(descriptor, without)
        for name in required:
            if name not in entries:
                self.report.add(node, f"{path}.{name}", "this element is required", "add it")
        return _message_rule(descriptor, children, required, path)

    def value(self, node: Node, field: FieldDescriptor, path: str, *, repeated: bool) -> Rule:
        """Compile an element; with `repeated`, all values of a repeated element."""
        if isinstance(node, MappingNode) and any(str(key.value).startswith("$") for key, _ in node.value):
            return self._operator(node, field, path, repeated=repeated)
        if repeated and is_map(field):
            return self._map(node, path)
        if repeated:
            return self._list(node, field, path)
        if field.message_type is not None and field.message_type.full_name != _TIMESTAMP:
            return self.message(node, field.message_type, path)
        return self.converted(node, path, converter(field))

    def _list(self, node: Node, field: FieldDescriptor, path: str) -> Rule:
        if not isinstance(node, SequenceNode):
            self.report.add(node, path, "this must be a list", "write one element per line, each after '- '")
            return absent
        rules = [self.value(item, field, f"{path}[{index}]", repeated=False) for index, item in enumerate(node.value)]
        return lambda row: [value for value in (rule(row) for rule in rules) if value is not None] or None

    def _map(self, node: Node, path: str) -> Rule:
        """Compile a map from text to text; keys whose template has no value are left out."""
        entries = self.report.entries(node, path) or {}
        rules = {name: self.converted(value, f"{path}.{name}", str) for name, (_, value) in entries.items()}

        def rule(row: Row) -> object:
            values = {name: each(row) for name, each in rules.items()}
            return {name: value for name, value in values.items() if value is not None} or None

        return rule

    def converted(self, node: Node, path: str, convert: Callable[[str], object]) -> Rule:
        """Compile a template whose text is converted to a value; a constant is converted at once."""
        template = self._template(node, path)
        if template is None:
            return absent
        if template.constant:
            try:
                value = convert(template.text({}) or "")
            except CellError as error:
                self.report.add(node, path, str(error), "correct the value")
                return absent
            return lambda _: value

        def rule(row: Row) -> object:
            try:
                text = template.text(row)
                return None if not text else convert(text)
            except CellError as error:
                raise RowFaultError((path, str(error))) from None

        return rule

    def _template(self, node: Node, path: str) -> _Template | None:
        text = self.report.text(node, path)
        if text is None:
            return None
        pieces: list[str | _CellReference] = []
        end = 0
        for match in _REFERENCE.finditer(text):
            pieces.append(text[end : match.start()])
            end = match.end()
            if match[0] in ("{{", "}}"):
                pieces.append(match[0][0])
            elif match[1] is None:
                self.report.add(node, path, f"{match[0]!r} stands alone", "write {{ or }} for the character itself")
            else:
                pieces.append(self._reference(match[1], node, path))
        return _Template((*pieces, text[end:]))

    def _reference(self, name: str, node: Node, path: str) -> _CellReference:
        lookup = _LOOKUP.fullmatch(name)
        if lookup is None or (self._columns is not None and name in self._columns):
            self._use(name, node, path)
            return _CellReference(name)
        table_name, column, table_column = lookup.groups()
        self._use(column, node, path)
        table = self._tables.get(table_name)
        if table is None:
            self.report.unknown(node, path, table_name, tuple(self._tables), "a table that could be read")
        elif table_column not in table.columns:
            self.report.unknown(node, path, table_column, table.columns, f"a column of table {table_name!r}")
        return _CellReference(column, table_name, table, table_column)

    def _use(self, column: str, node: Node, path: str) -> None:
        self._used.setdefault(_INDEX.sub("", path), set()).add(column)
        if self._columns is None:
            return
        if column not in self._columns:
            self.report.unknown(node, path, column, self._columns, f"a column of the {self._source}")
        elif self._columns.count(column) > 1:
            self.report.add(
                node,
                path,
                f"the {self._source.removesuffix(' file')} has several columns {column!r}",
                "give each column its own name",
            )

    def _operator(self, node: Node, field: FieldDescriptor, path: str, *, repeated: bool) -> Rule:
        entries = self.report.entries(node, path) or {}
        names = [name for name in entries if name.startswith("$")]
        if len(names) != 1:
            self.report.add(node, path, "an element has one operator at most", f"keep one of: {', '.join(names)}")
            return absent
        operator = self._operators.get(names[0])
        if operator is None:
            self.report.unknown(node, path, names[0], tuple(self._operators), "an operator")
            return absent
        known = (*operator.required, *operator.optional)
        for option, (key, _) in entries.items():
            if option not in (names[0], *known):
                self.report.unknown(key, path, option, known, f"an option of {names[0]}")
        missing = [option for option in operator.required if option not in entries]
        for option in missing:
            self.report.add(node, path, f"{names[0]} has no {option!r}", "add it")
        call = Call(entries, field, path, repeated)
        if not operator.fits(call):
            self.report.add(node, path, f"{names[0]} cannot make this element", f"{names[0]} makes {operator.makes}")
            return absent
        return absent if missing else operator.compile(self, call)


def is_map(field: FieldDescriptor) -> bool:
    """Return whether a field is a map. All maps of the schema are from text to text."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _required(descriptor: Descriptor, without: Sequence[str]) -> tuple[str, ...]:
    elsewhere = _REQUIRED_ELSEWHERE.get(descriptor.full_name, ())
    return tuple(
        field.name
        for field in descriptor.fields
        if field.name not in without
        and (
            field.name in elsewhere
            or field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        )
    )


def _message_rule(
    descriptor: Descriptor, children: Sequence[tuple[FieldDescriptor, Rule]], required: Sequence[str], path: str
) -> Rule:
    make = GetMessageClass(descriptor)

    def rule(row: Row) -> Message | None:
        message = make()
        faults: list[tuple[str, str]] = []
        given: set[str] = set()
        for field, child in children:
            try:
                value = child(row)
            except RowFaultError as error:
                faults.extend(error.faults)
                given.add(field.name)
                continue
            if value is None:
                continue
            oneof = field.containing_oneof
            if oneof is not None and (taken := message.WhichOneof(oneof.name)):
                faults.append((path, f"{taken} and {field.name} both have a value, but one excludes the other"))
                continue
            _assign(message, field, value)
            given.add(field.name)
        if children and not given:
            return None
        faults.extend((f"{path}.{name}", "has no value but is required") for name in required if name not in given)
        if faults:
            raise RowFaultError(*faults)
        return message

    return rule


def _assign(message: Message, field: FieldDescriptor, value: object) -> None:
    if isinstance(value, list):
        getattr(message, field.name).extend(value)
    elif isinstance(value, dict):
        getattr(message, field.name).update(value)
    elif isinstance(value, Message):
        part = getattr(message, field.name)
        part.CopyFrom(value)
        part.SetInParent()  # marks an empty message as present
    else:
        setattr(message, field.name, value)
