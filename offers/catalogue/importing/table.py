"""Import of tables: by a mapping file, each row becomes an Offer, a Venue or a Zone, or a reject with a reason."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from yaml.nodes import Node

from offers.catalogue.check import check
from offers.catalogue.document import write_fragments
from offers.catalogue.importing import features
from offers.catalogue.importing.features import FeatureRows
from offers.catalogue.importing.mapping import MappingReport, Sections
from offers.catalogue.importing.mapping import read as read_mapping
from offers.catalogue.importing.operators import OPERATORS
from offers.catalogue.importing.rows import CsvRows, open_csv
from offers.catalogue.importing.rules import Compiler, LookupTable, Row, RowFaultError, Rule
from offers.errors import CatalogError, Problem
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.venue_pb2 import Venue, Zone

PROGRESS_ROWS = 500
"""Rows between two reports of progress: enough reports for a smooth bar, at no noticeable cost."""

_RECORD = re.compile(r"record (\d+): (?:(\w+)s\[0\]\.?)?(.*)", re.DOTALL)
_FIRST_ROW_RECORD = 2
_STAND_IN = Offer(
    offer_id="stand-in", title="stand-in", benefit=Benefit(custom="stand-in"), target=Target(everywhere=True)
)
_DESCRIPTORS = {"venue": Venue.DESCRIPTOR, "zone": Zone.DESCRIPTOR, "offer": Offer.DESCRIPTOR}

Made = Mapping[str, Venue | Zone | Offer]
"""The messages a row became, by their names in KINDS."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was not imported."""

    row: int
    """The line on which the row begins or, in a GeoJSON file, the number of the feature, from 1."""
    reason: str
    """Every fault, each with its element."""
    fields: tuple[str, ...]
    """The columns from which the faulty elements are made; empty if the whole row is at fault."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The outcome of an import: each row is in the catalogue or a reject."""

    catalog: Catalog
    rows: int
    """Rows read, without the header and blank lines."""
    rejects: tuple[Reject, ...]
    """In the order of the file."""
    kinds: tuple[str, ...]
    """The messages each row became: some of "venue", "zone" and "offer"."""
    noun: str
    """The unit of `Reject.row`: "line" or "feature"."""


def import_table(
    mapping: Path,
    table: Path,
    *,
    tables: Mapping[str, Path] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportResult:
    """Import a file as a catalogue: GeoJSON if its name ends with .geojson or .json, else CSV.

    `tables` are the files of lookup tables, by name, in place of those in the mapping. `progress` is called with the
    number of bytes or characters read so far and in total. Raises CatalogError with every problem of the mapping, its
    tables, or the file as a whole. A row with a fault becomes a reject.
    """
    report = MappingReport(str(mapping))
    sections = read_mapping(mapping, report)
    if sections is None:
        raise CatalogError(report.problems)
    lookups = _lookups(sections, tables or {}, report)
    with ExitStack() as stack:
        source = _source(table, sections, report, stack)
        compiler = _compiler(report, source, lookups)
        rules = {kind: compiler.message(node, _DESCRIPTORS[kind], kind) for kind, node in sections.kinds.items()}
        head = Catalog() if sections.catalog is None else _head(sections.catalog, report)
        if report.problems or source is None:
            raise CatalogError(report.problems)
        conversion = _Conversion(rules, compiler, source.noun)
        for line, row in source.rows():
            conversion.take(line, row)
            if progress is not None and conversion.rows % PROGRESS_ROWS == 0:
                progress(*source.position())
        if progress is not None:
            progress(*source.position())
    conversion.check(head)
    for _, made in conversion.made:
        head.MergeFrom(_fragment(made))
    rejects = tuple(sorted(conversion.rejects, key=lambda reject: reject.row))
    return ImportResult(head, conversion.rows, rejects, tuple(rules), source.noun)


def _lookups(sections: Sections, given: Mapping[str, Path], report: MappingReport) -> dict[str, LookupTable]:
    lookups: dict[str, LookupTable] = {}
    for name in given:
        if name not in sections.tables:
            fix = f"name one of: {', '.join(sections.tables) or '(there is none)'}"
            report.add(None, f"tables.{name}", "a file was given for a table that the mapping does not have", fix)
    for name, options in sections.tables.items():
        path = given.get(name, options.file)
        if path is None:
            report.add(None, f"tables.{name}", "the table has no file", "add 'file', or give one for this import")
            continue
        try:
            with open_csv(path, options.csv) as source:
                lookups[name] = LookupTable(source.columns, _keyed(source.rows(), options.key, path, report))
                if options.key not in source.columns:
                    report.unknown(None, f"tables.{name}.key", options.key, source.columns, f"a column of {path}")
        except CatalogError as error:
            report.problems.extend(error.problems)
    return lookups


def _keyed(rows: Iterable[tuple[int, Row | str]], key: str, path: Path, report: MappingReport) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for line, row in rows:
        if isinstance(row, str):
            report.problems.append(Problem(str(path), line, "", row, "correct the row"))
        elif (value := row.get(key)) in found:
            report.problems.append(Problem(str(path), line, key, f"{value!r} is there twice", "remove one of the rows"))
        elif value is not None:
            found[value] = row
    return found


def _source(table: Path, sections: Sections, report: MappingReport, stack: ExitStack) -> CsvRows | FeatureRows | None:
    try:
        if table.suffix.lower() in features.SUFFIXES:
            return FeatureRows(table, sections.csv)
        return stack.enter_context(open_csv(table, sections.csv))
    except CatalogError as error:
        report.problems.extend(error.problems)
        return None


def _compiler(
    report: MappingReport, source: CsvRows | FeatureRows | None, lookups: Mapping[str, LookupTable]
) -> Compiler:
    if isinstance(source, FeatureRows):
        return Compiler(report, source.columns, lookups, OPERATORS, "GeoJSON file")
    return Compiler(report, None if source is None else source.columns, lookups, OPERATORS)


def _head(node: Node, report: MappingReport) -> Catalog:
    """Return the catalogue without its offers, checked with a stand-in for the offers to come."""
    before = len(report.problems)
    # Without columns, because the catalogue's own elements are the same for every row.
    compiler = Compiler(report, (), {}, OPERATORS)
    rule = compiler.message(node, Catalog.DESCRIPTOR, "catalog", without=("offers",))
    if len(report.problems) > before:
        return Catalog()
    try:
        head = rule({})
    except RowFaultError as error:
        for path, reason in error.faults:
            report.problems.append(Problem(report.file, report.lines.get(path), path, reason, "correct the value"))
        return Catalog()
    if not isinstance(head, Catalog):
        report.add(node, "catalog", "none of its elements has a value", "write at least a catalog_id")
        return Catalog()
    for _, problem in _checked(head, [{"offer": _STAND_IN}]):
        path = f"catalog.{problem.field.removeprefix('.')}"
        report.problems.append(replace(problem, file=report.file, line=report.lines.get(path), field=path))
    return head


def _fragment(made: Made) -> Catalog:
    """Return the messages of one row as a catalogue."""
    catalog = Catalog()
    for kind, message in made.items():
        getattr(catalog, f"{kind}s").append(message)
    return catalog


def _checked(head: Catalog, rows: Sequence[Made]) -> Iterator[tuple[int, Problem]]:
    """Check a catalogue of rows, and yield each problem with the index of its row, negative for the head.

    The field of a problem is a path that begins with the name in KINDS, or a path in the head.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "import.binpb"
        write_fragments(path, [head, *map(_fragment, rows)])
        try:
            check(path)
        except CatalogError as error:
            found = error.problems
        else:
            return
    for problem in found:
        place = _RECORD.fullmatch(problem.field)
        record, kind, field = (1, "", problem.field) if place is None else (int(place[1]), place[2], place[3])
        is_row = record >= _FIRST_ROW_RECORD
        yield (
            record - _FIRST_ROW_RECORD,
            replace(problem, field=f"{kind}.{field}".rstrip(".") if is_row else field),
        )


class _Conversion:
    """The rows of a file converted so far, and the rejects."""

    def __init__(self, rules: Mapping[str, Rule], compiler: Compiler, noun: str) -> None:
        self._rules = rules
        self._compiler = compiler
        self._noun = noun
        self._line_of_id: dict[tuple[str, str], int] = {}
        self.rows = 0
        self.made: list[tuple[int, Made]] = []
        self.rejects: list[Reject] = []

    def take(self, line: int, row: Row | str) -> None:
        """Convert a row. A text in place of the row is the reason why it could not be read."""
        self.rows += 1
        if isinstance(row, str):
            self.rejects.append(Reject(line, row, ()))
            return
        made: dict[str, Venue | Zone | Offer] = {}
        faults: list[tuple[str, str]] = []
        missing: list[str] = []
        for kind, rule in self._rules.items():
            try:
                message = rule(row)
            except RowFaultError as error:
                faults.extend(error.faults)
                continue
            if isinstance(message, Venue | Zone | Offer):
                made[kind] = message
            else:
                missing.append(kind)
        if missing and not (made or faults):
            self.rejects.append(
                Reject(line, f"the row gives no value to any element of the {' or '.join(missing)}", ())
            )
            return
        faults.extend((kind, "no element of it has a value") for kind in missing)
        if not faults:
            faults = [
                (f"{kind}.{kind}_id", f"{identity!r} is already the id of {self._noun} {first}")
                for kind, message in made.items()
                if (identity := getattr(message, f"{kind}_id"))
                and (first := self._line_of_id.setdefault((kind, identity), line)) != line
            ]
        if faults:
            self._reject(line, faults)
        else:
            self.made.append((line, made))

    def check(self, head: Catalog) -> None:
        """Reject the rows that break a rule of catalogues."""
        whole = Catalog()
        whole.CopyFrom(head)
        if "offer" not in self._rules:
            whole.offers.append(_STAND_IN)
        while self.made:  # rows may refer to a rejected one
            faults: dict[int, list[tuple[str, str]]] = {}
            for index, problem in _checked(whole, [made for _, made in self.made]):
                if index < 0:
                    raise CatalogError([problem])
                faults.setdefault(index, []).append((problem.field, f"{problem.reason}; {problem.fix}"))
            if not faults:
                return
            for index, found in faults.items():
                self._reject(self.made[index][0], found)
            self.made = [entry for index, entry in enumerate(self.made) if index not in faults]

    def _reject(self, line: int, faults: Sequence[tuple[str, str]]) -> None:
        columns = {column for path, _ in faults for column in self._compiler.columns_at(path)}
        if len(self._rules) == 1:  # then the path is clear without it
            faults = [(path.removeprefix(f"{next(iter(self._rules))}."), reason) for path, reason in faults]
        reason = "; ".join(f"{path}: {reason}" for path, reason in faults)
        self.rejects.append(Reject(line, reason, tuple(sorted(columns))))
