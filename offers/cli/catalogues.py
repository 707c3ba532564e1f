"""The commands `offers validate`, `offers import` and `offers compile`: catalogue documents before they are served."""

import csv
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.cli.output import fail, stderr, stdout
from offers.errors import CatalogError

if TYPE_CHECKING:
    from offers.catalogue.importing import ImportResult
    from offers.v1.catalog_pb2 import Catalog

REJECTS_SHOWN = 20
"""Most rejects that are listed on the screen; if there are more, all are written to a file."""

HINTS_SHOWN = 50
"""Most hints that `offers validate` prints."""

DocumentPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="A .yaml, .json or .binpb file, or a folder of them.")
]


def validate(
    path: DocumentPath,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print each problem as a line of JSON.")] = False,
) -> None:
    """Check a catalogue document and report every problem.

    Each problem is one line: file, line, field, reason, what to write.
    Lines that begin with "note:" name hours that opening_hours.js reads
    differently.
    Exit status 1: the document has problems.
    """
    import orjson

    from offers.catalogue.check import check
    from offers.catalogue.hints import hints

    try:
        checked = check(path)
    except CatalogError as error:
        for problem in error.problems:
            typer.echo(orjson.dumps(asdict(problem)) if as_json else str(problem))
        raise typer.Exit(fail(counted(len(error.problems), "problem"))) from None
    for hint in islice(hints(path, checked), HINTS_SHOWN):
        typer.echo(f"note: {hint}", err=as_json)
    counts = (
        counted(checked.offer_count, "offer"),
        counted(len(checked.venues), "venue"),
        counted(len(checked.zones), "zone"),
        counted(len(checked.placements), "placement"),
        counted(len(checked.ranking_strategies), "ranking strategy", "ranking strategies"),
        *(
            counted(len(named), noun, plural)
            for named, noun, plural in (
                (checked.segments, "segment", ""),
                (checked.campaigns, "campaign", ""),
                (checked.category_limits, "category limit", ""),
                (checked.contact_policies, "contact policy", "contact policies"),
                (checked.experiments, "experiment", ""),
            )
            if named
        ),
    )
    typer.echo(f"{path}: the catalogue '{checked.catalog.catalog_id}' is good: {', '.join(counts)}", err=as_json)


def import_(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A CSV file, or a GeoJSON file (.geojson, .json), whose rows are its features."
        ),
    ],
    *,
    mapping: Annotated[Path, typer.Option("--map", help="Mapping file, which defines how rows are converted.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Document to write: .yaml, .json or .binpb.")],
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME=PATH", help="File of a lookup table of the mapping; may be repeated."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Write nothing if any row is rejected.")] = False,
) -> None:
    """Import a CSV or GeoJSON file as a catalogue document, by a mapping.

    Every row becomes an offer, a venue or a zone (or several of these),
    or is listed as a reject with the reason.
    Exit status 1, and nothing is written: no row could be imported or,
    with --strict, not all of them.
    """
    from offers.catalogue.document import SUFFIXES

    if out.suffix.lower() not in SUFFIXES:
        message = f"'{out}': name it .yaml, .json or .binpb, after what to write"
        raise typer.BadParameter(message)
    named = _named_paths(tables or ())
    result = _import_with_progress(table, mapping, named)
    _list_rejects(result, out.with_name(f"{out.name}.rejects.csv"))
    imported = result.rows - len(result.rejects)
    made = ", ".join(counted(imported, kind) for kind in result.kinds)
    noun = "row" if result.noun == "line" else result.noun
    counts = f"{counted(result.rows, noun)}: {made}, {counted(len(result.rejects), 'reject')}"
    if not imported or (strict and result.rejects):
        raise typer.Exit(fail(f"{counts}; {out} is not written"))
    _write_document(out, result.catalog)
    typer.echo(f"{counts}; written to {out}", err=True)


def _import_with_progress(table: Path, mapping: Path, tables: dict[str, Path]) -> "ImportResult":
    """Import a file, with a progress bar where stderr is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    from offers.catalogue.importing import import_table

    console = stderr()
    columns = (TextColumn(table.name, markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("import", total=None)
        return import_table(
            mapping, table, tables=tables, progress=lambda done, size: bar.update(task, completed=done, total=size)
        )


def _write_document(out: Path, catalog: "Catalog") -> None:
    """Write a document completely or not at all. Raises typer.Exit when it cannot be written."""
    from offers.catalogue.document import write_document

    draft = out.with_name(f".{out.stem}.draft{out.suffix}")  # a server that watches `out` must not see half of it
    try:
        write_document(draft, catalog)
        draft.replace(out)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise typer.Exit(fail(f"cannot write {out}: {error.strerror}")) from None


def compile_(
    path: DocumentPath,
    *,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for compiled snapshots. \\[default: as `offers serve`]")
    ] = None,
) -> None:
    """Compile a catalogue document into a snapshot, if it has changed.

    A server with the same data folder then starts without compiling it.
    """
    from offers.catalogue.publish import publish
    from offers.catalogue.snapshot import open_snapshot
    from offers.settings import read_settings
    from offers.telemetry import logs

    logs.configure("info")
    started = time.monotonic()
    with stderr().status(f"compiling {path}"):
        published = publish(path, read_settings(data_dir=data_dir).data_dir)
    snapshot = open_snapshot(published.path)
    how = f"compiled in {time.monotonic() - started:.1f} s" if published.compiled else "there already"
    typer.echo(published.path)
    typer.echo(
        f"catalogue '{published.catalog_id}', version {published.version}, {how}: "
        f"{counted(snapshot.meta['offers'], 'offer')}, {counted(snapshot.meta['entries'], 'entry', 'entries')}, "
        f"{counted(snapshot.size, 'byte')}"
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as "1 offer" or "19,413 offers"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _named_paths(given: Sequence[str]) -> dict[str, Path]:
    named = {}
    for argument in given:
        name, equals, path = argument.partition("=")
        if not (name and equals and path):
            message = f"--table '{argument}': give the name of a table of the mapping and a file, as in areas=areas.csv"
            raise typer.BadParameter(message)
        named[name] = Path(path)
    return named


def _list_rejects(result: "ImportResult", file: Path) -> None:
    """List the first rejects, and write all of them to a file if there are more; remove an older file otherwise."""
    from rich.table import Table
    from rich.text import Text

    rejects = result.rejects
    if not rejects:
        file.unlink(missing_ok=True)
        return
    listed = Table(result.noun, "reason", title="rejects", title_justify="left")
    for reject in rejects[:REJECTS_SHOWN]:
        listed.add_row(str(reject.row), Text(reject.reason))
    stdout().print(listed)
    if len(rejects) <= REJECTS_SHOWN:
        file.unlink(missing_ok=True)
        return
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((result.noun, "reason"))
        writer.writerows((reject.row, reject.reason) for reject in rejects)
    typer.echo(f"and {len(rejects) - REJECTS_SHOWN:,} more: all are in {file}", err=True)
