"""CSV import: a mapping file turns each row of a table into an Offer, or into a reject that says why not."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from yaml.nodes import Node

from offers.catalogue.check import check
from offers.catalogue.document import write_fragments
from offers.catalogue.importing.mapping import MappingReport, Sections
from offers.catalogue.importing.mapping import read as read_mapping
from offers.catalogue.importing.operators import OPERATORS
from offers.catalogue.importing.rows import open_csv
from offers.catalogue.importing.rules import Compiler, Row, RowFaultError, Rule, Table, absent
from offers.errors import CatalogError, Problem
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer, Target

PROGRESS_ROWS = 500
"""Rows between two reports of progress: often enough for a smooth bar, and not noticeable beside the work."""

_RECORD = re.compile(r"record (\d+): (?:offers\[0\]\.?)?(.*)", re.DOTALL)
_FIRST_OFFER_RECORD = 2
_STAND_IN = Offer(
    offer_id="stand-in", title="stand-in", benefit=Benefit(custom="stand-in"), target=Target(everywhere=True)
)


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not in the catalogue."""

    row: int
    """The line of the file, from 1, on which the row begins."""
    reason: str
    """All that is wrong with it, each with the element of the offer."""
    fields: tuple[str, ...]
    """The columns that the elements at fault are made from; empty where the row as a whole is at fault."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of a CSV file: each of its rows is an offer or a reject."""

    catalog: Catalog
    rows: int
    """Rows read, without the header and blank lines."""
    rejects: tuple[Reject, ...]
    """In the order of the file."""


def import_csv(
    mapping: Path,
    table: Path,
    *,
    tables: Mapping[str, Path] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportResult:
    """Make a catalogue of a CSV file.

    `tables` gives files for lookup tables of the mapping, by name. `progress` is told the bytes read and all bytes.
    Raises CatalogError with every problem of the mapping, its tables, or the file as a whole; what is wrong with a
    single row makes it a reject.
    """
    report = MappingReport(str(mapping))
    sections = read_mapping(mapping, report)
    if sections is None:
        raise CatalogError(report.problems)
    lookups = _lookups(sections, tables or {}, report)
    columns = _columns(table, sections, report)
    compiler = Compiler(report, columns, lookups, OPERATORS)
    offer_rule = absent if sections.offer is None else compiler.message(sections.offer, Offer.DESCRIPTOR, "offer")
    head = Catalog() if sections.catalog is None else _head(sections.catalog, report)
    if report.problems:
        raise CatalogError(report.problems)
    conversion = _Conversion(offer_rule, compiler)
    with open_csv(table, sections.csv) as source:
        for line, row in source.rows():
            conversion.take(line, row)
            if progress is not None and conversion.rows % PROGRESS_ROWS == 0:
                progress(*source.position())
        if progress is not None:
            progress(*source.position())
    conversion.check(head)
    head.offers.extend(offer for _, offer in conversion.offers)
    return ImportResult(head, conversion.rows, tuple(sorted(conversion.rejects, key=lambda reject: reject.row)))


def _lookups(sections: Sections, given: Mapping[str, Path], report: MappingReport) -> dict[str, Table]:
    lookups: dict[str, Table] = {}
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
                lookups[name] = Table(source.columns, _keyed(source.rows(), options.key, path, report))
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


def _columns(table: Path, sections: Sections, report: MappingReport) -> tuple[str, ...] | None:
    try:
        with open_csv(table, sections.csv) as source:
            return source.columns
    except CatalogError as error:
        report.problems.extend(error.problems)
        return None


def _head(node: Node, report: MappingReport) -> Catalog:
    """The catalogue without its offers, checked with an offer that stands in for those to come."""
    before = len(report.problems)
    # No columns: the catalogue's own elements are the same for every row.
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
    for _, problem in _checked(head, [_STAND_IN]):
        path = f"catalog.{problem.field}"
        report.problems.append(replace(problem, file=report.file, line=report.lines.get(path), field=path))
    return head


def _checked(head: Catalog, offers: Sequence[Offer]) -> Iterator[tuple[int, Problem]]:
    """What the check of whole catalogues finds: the index of the offer (negative: the head), and the problem.

    The problem's field is a path in the offer or in the head.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "import.binpb"
        write_fragments(path, [head, *(Catalog(offers=[offer]) for offer in offers)])
        try:
            check(path)
        except CatalogError as error:
            found = error.problems
        else:
            return
    for problem in found:
        place = _RECORD.fullmatch(problem.field)
        record, field = (1, problem.field) if place is None else (int(place[1]), place[2])
        yield record - _FIRST_OFFER_RECORD, replace(problem, field=field)


class _Conversion:
    """The offers and rejects of a file so far."""

    def __init__(self, rule: Rule, compiler: Compiler) -> None:
        self._rule = rule
        self._compiler = compiler
        self._line_of_id: dict[str, int] = {}
        self.rows = 0
        self.offers: list[tuple[int, Offer]] = []
        self.rejects: list[Reject] = []

    def take(self, line: int, row: Row | str) -> None:
        """Convert a row; a text is the reason why it could not be read."""
        self.rows += 1
        if isinstance(row, str):
            self.rejects.append(Reject(line, row, ()))
            return
        try:
            offer = self._rule(row)
        except RowFaultError as error:
            self._reject(line, error.faults)
            return
        if not isinstance(offer, Offer):
            self.rejects.append(Reject(line, "the row gives no value to any element of the offer", ()))
            return
        first = self._line_of_id.setdefault(offer.offer_id, line)
        if first != line:
            self._reject(line, [("offer.offer_id", f"{offer.offer_id!r} is already the id of line {first}")])
        else:
            self.offers.append((line, offer))

    def check(self, head: Catalog) -> None:
        """Make rejects of the offers that break a rule of the schema, by the check every catalogue must pass."""
        faults: dict[int, list[tuple[str, str]]] = {}
        offers = [offer for _, offer in self.offers]
        for index, problem in _checked(head, offers) if offers else ():
            if index < 0:
                raise CatalogError([problem])
            path = f"offer.{problem.field}".rstrip(".")
            faults.setdefault(index, []).append((path, f"{problem.reason}; {problem.fix}"))
        for index, found in faults.items():
            self._reject(self.offers[index][0], found)
        self.offers = [entry for index, entry in enumerate(self.offers) if index not in faults]

    def _reject(self, line: int, faults: Sequence[tuple[str, str]]) -> None:
        reason = "; ".join(f"{path.removeprefix('offer.')}: {reason}" for path, reason in faults)
        columns = {column for path, _ in faults for column in self._compiler.columns_at(path)}
        self.rejects.append(Reject(line, reason, tuple(sorted(columns))))
