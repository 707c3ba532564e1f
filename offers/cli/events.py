"""`offers events`: imports events into a server, and reads them from its log."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offers.cli.output import fail, stderr
from offers.errors import OffersError

if TYPE_CHECKING:
    from rich.progress import Progress

    from offers.cli.event_import import EventImporter
    from offers.state.stores import EventLog, NumberedEvent

app = typer.Typer(name="events", no_args_is_help=True, help="Import, export and show events.")
FAULTS_SHOWN = 20
NO_SERVER = 3
FOLLOW_S = 0.5
PAGE = 1_000

DataDir = Annotated[Path | None, typer.Option(help="Data folder of the server. \\[default: as `offers serve`]")]
EventsUrl = Annotated[
    str | None, typer.Option(help="Where the server keeps events. \\[default: state.db of the data folder]")
]


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="File of JSON lines, or of one batch: CloudEvents, or Segment-style calls."
        ),
    ],
    *,
    target: Annotated[str, typer.Option(help="Server to report the events to.")] = "localhost:50051",
    catalog: Annotated[
        str, typer.Option("--catalog-id", metavar="ID", help="Catalogue of events that name no other.")
    ] = "",
    consent: Annotated[
        str,
        typer.Option(
            metavar="PURPOSES", help="Purposes that all persons of the file have agreed to: profiling,learning,..."
        ),
    ] = "",
) -> None:
    """Report the events of a file to a running server.

    Each line is a CloudEvent 1.0, a call of Segment's Spec (track, identify,
    alias; page, screen and group are passed over), or a batch of them;
    docs/guides/events.md describes how they are converted. A line that cannot
    be used is refused, and the others are reported. Every event counts once:
    after a fault, import the whole file again.
    Exit status 0: nothing was refused; 1: something was refused, or the file
    cannot be read; 3: the server cannot be reached.
    """
    import structlog

    from offers.cli.event_import import EventImporter
    from offers.client import OffersCallError
    from offers.telemetry import logs

    if not structlog.is_configured():
        logs.configure("warning")
    with closing(EventImporter(target, catalog, _purposes(consent))) as importer:
        try:
            with file.open("rb") as lines, _progress(file.name) as bar:
                task = bar.add_task("import", total=file.stat().st_size)
                importer.run(lines, lambda done: bar.update(task, completed=done))
        except OSError as error:
            raise typer.Exit(fail(f"cannot read {file}: {error.strerror}")) from None
        except OffersCallError as error:
            _tell(file, importer)
            done = "; what was reported until then is kept: import the file again"
            raise typer.Exit(fail(f"{target}: {error}{done}", status=NO_SERVER)) from None
    _tell(file, importer)
    if importer.faults:
        raise typer.Exit(1)


def _progress(name: str) -> "Progress":
    """Return a progress bar on stderr, invisible where that is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    console = stderr()
    columns = (TextColumn(name, markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _tell(file: Path, importer: "EventImporter") -> None:
    """Print the first faults and the counts."""
    faults = importer.faults
    for fault in faults[:FAULTS_SHOWN]:
        typer.echo(f"{file}:{fault}")
    if len(faults) > FAULTS_SHOWN:
        typer.echo(f"{file}: {len(faults) - FAULTS_SHOWN:,} more were refused", err=True)
    counts = ", ".join(f"{count:,} {name}" for name, count in importer.counts.items())
    typer.echo(f"{file}: {counts or 'nothing'}", err=True)


@app.command()
def export(
    *,
    after: Annotated[int, typer.Option(min=0, help="Number in the log after which to begin.")] = 0,
    data_dir: DataDir = None,
    events_url: EventsUrl = None,
) -> None:
    """Print the events of the log as lines of CloudEvents 1.0.

    The number of the last one is printed on stderr, for --after of the next export.
    Exit status 1: some events cannot be written as JSON, and were left out.
    """
    from offers.state.cloudevents import exported

    is_whole = True
    with _log(data_dir, events_url) as log:
        while page := log.read(after, PAGE):
            for number, event in page:
                try:
                    typer.echo(exported(event))
                except ValueError as error:
                    is_whole = False
                    typer.echo(f"event {number} of the log is left out: {error}", err=True)
            after = page[-1].number
    typer.echo(f"the log ends at {after}", err=True)
    if not is_whole:
        raise typer.Exit(1)


@app.command()
def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of latest events to show.")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show new events as they arrive, until Ctrl-C.")
    ] = False,
    data_dir: DataDir = None,
    events_url: EventsUrl = None,
) -> None:
    """Show the latest events of the log, one to a line."""
    with _log(data_dir, events_url) as log:
        after = _end(log)
        for one in _last(log, after, lines):
            typer.echo(_shown(one))
        while follow:
            for one in log.read(after, PAGE):
                typer.echo(_shown(one))
                after = one.number
            time.sleep(FOLLOW_S)


def _purposes(names: str) -> list[Any]:
    from offers.state.person.consent import PURPOSES

    try:
        return [PURPOSES[name.strip().lower()] for name in names.split(",") if name]
    except KeyError:
        raise typer.BadParameter(f"--consent '{names}': there are {', '.join(PURPOSES)}") from None


@contextmanager
def _log(data_dir: Path | None, events_url: str | None) -> Iterator["EventLog"]:
    from offers.settings import read_settings
    from offers.state.opening import FILE, open_stores

    settings = read_settings(data_dir=data_dir, events_url=events_url)
    if not settings.events_url and not (settings.data_dir / FILE).is_file():
        raise OffersError(f"no {FILE} in {settings.data_dir}: name the server's --data-dir or --events-url")
    with closing(open_stores(settings)) as stores:
        yield stores.events


def _end(log: "EventLog") -> int:
    """Return the number of the last event, by a binary search of about forty reads."""
    low, high = 0, 1
    while log.read(high, 1):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log.read(middle, 1) else (low, middle)
    return high if log.read(low, 1) else low


def _last(log: "EventLog", end: int, count: int) -> "deque[NumberedEvent]":
    """Return the last `count` events up to a number; erased events leave gaps in the numbers."""
    span = max(count, 1)
    while True:
        begin = max(0, end - span)
        found: deque[NumberedEvent] = deque(maxlen=count)
        after = begin
        while page := [one for one in log.read(after, PAGE) if one.number <= end]:
            found.extend(page)
            after = page[-1].number
        if len(found) == count or begin == 0:
            return found
        span *= 4


def _shown(numbered: "NumberedEvent") -> str:
    from datetime import UTC, datetime

    from offers.model.events import KIND_NAMES

    number, event = numbered
    when = datetime.fromtimestamp(event.second, UTC).strftime("%Y-%m-%d %H:%M:%S")
    kind = KIND_NAMES.get(event.kind, f"kind {event.kind}")
    about = (event.catalog, event.offer_id, event.person or "nobody", event.geohash)
    return "  ".join((f"{number}", f"{when}Z", kind, *(text for text in about if text)))
