"""`offers events`: imports events into a server, and reads them from its log."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from offers.cli.output import fail, stderr
from offers.errors import OffersError

if TYPE_CHECKING:
    from rich.progress import Progress

    from offers.client import OffersCallError
    from offers.state.stores import EventLog, NumberedEvent
    from offers.state.tracked import Identified
    from offers.v1.event_pb2 import Event

app = typer.Typer(name="events", no_args_is_help=True, help="Import, export and show events.")
BATCH = 500
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
        Path, typer.Argument(metavar="FILE", help="File of JSON lines: CloudEvents, or Segment-style calls.")
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

    Lines are CloudEvents 1.0, or Segment-style track, identify and alias
    calls; docs/guides/events.md describes how they are converted. Every event
    counts once: after a fault, import the whole file again.
    Exit status 1: some lines were refused; 3: the server cannot be reached.
    """
    from offers.client import OffersCallError

    try:
        with (
            file.open("rb") as lines,
            _progress(file.name) as bar,
            closing(_Importer(target, catalog, _purposes(consent))) as importer,
        ):
            task = bar.add_task("import", total=file.stat().st_size)
            importer.run(lines, lambda done: bar.update(task, completed=done))
    except OSError as error:
        raise typer.Exit(fail(f"cannot read {file}: {error.strerror}")) from None
    except OffersCallError as error:
        done = "; what was reported until then is kept: import the file again"
        raise typer.Exit(fail(f"{target}: {error}{done}", status=NO_SERVER)) from None
    _tell(file, importer)


def _progress(name: str) -> "Progress":
    """Return a progress bar on stderr, invisible where that is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    console = stderr()
    columns = (TextColumn(name, markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _tell(file: Path, importer: "_Importer") -> None:
    """Print the first faults and the counts. Raises typer.Exit where there are faults."""
    for fault in importer.faults[:FAULTS_SHOWN]:
        typer.echo(f"{file}:{fault}")
    counts = ", ".join(f"{count:,} {name}" for name, count in importer.counts.items())
    typer.echo(f"{file}: {counts or 'nothing'}", err=True)
    if importer.faults:
        raise typer.Exit(1)


@app.command()
def export(
    *,
    after: Annotated[int, typer.Option(min=0, help="Number in the log after which to begin.")] = 0,
    data_dir: DataDir = None,
    events_url: EventsUrl = None,
) -> None:
    """Print the events of the log as lines of CloudEvents 1.0.

    The number of the last one is printed on stderr, for --after of the next export.
    """
    from offers.state.cloudevents import exported

    with _log(data_dir, events_url) as log:
        while page := log.read(after, PAGE):
            for one in page:
                typer.echo(exported(one.event))
            after = page[-1].number
    typer.echo(f"the log ends at {after}", err=True)


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


class _Importer:
    """Reports the events of a file in batches."""

    def __init__(self, target: str, catalog: str, purposes: list[Any]) -> None:
        from grpc import insecure_channel

        from offers.client import CHANNEL_OPTIONS
        from offers.v1.event_service_pb2_grpc import EventServiceStub
        from offers.v1.profile_service_pb2_grpc import ProfileServiceStub

        self._channel = insecure_channel(target, options=CHANNEL_OPTIONS)
        self._events, self._profiles = EventServiceStub(self._channel), ProfileServiceStub(self._channel)
        self._catalog, self._purposes = catalog, purposes
        self._batch: list[tuple[int, Event]] = []
        self.faults: list[str] = []
        """Line numbers, each with its fault."""
        self.counts: Counter[str] = Counter()

    def close(self) -> None:
        self._channel.close()

    def run(self, lines: BinaryIO, progress: Callable[[int], object]) -> None:
        """Report all lines. Raises OffersCallError when the server cannot be reached."""
        done = 0
        for number, line in enumerate(lines, 1):
            done += len(line)
            if line.strip():
                self._take(number, line)
            if len(self._batch) == BATCH:
                self._report()
                progress(done)
        self._report()
        progress(done)

    def _take(self, number: int, line: bytes) -> None:
        import orjson

        from offers.state import cloudevents, tracked
        from offers.v1.event_pb2 import Event

        try:
            said = orjson.loads(line)
            if not isinstance(said, dict):
                raise ValueError("is no object")  # noqa: TRY004, TRY301 - reported with its line, as all faults
            made = cloudevents.imported(said) if "specversion" in said else tracked.read(said)
        except (ValueError, TypeError) as error:
            self._refuse(number, str(error))
            return
        if isinstance(made, Event):
            made.catalog = made.catalog or self._catalog
            self._agree(made.user)
            self._batch.append((number, made))
        else:
            self._identify(number, made)

    def _report(self) -> None:
        from grpc import RpcError

        from offers.v1.event_service_pb2 import EventWarning, ReportEventsRequest

        if not self._batch:
            return
        try:
            response = self._events.ReportEvents(
                ReportEventsRequest(events=[event for _, event in self._batch]), timeout=60
            )
        except RpcError as error:
            raise _call_error(error) from None
        for index, ((number, _), result) in enumerate(zip(self._batch, response.results, strict=True)):
            if result.HasField("status"):
                self._refuse(number, result.status.message.replace(f"events[{index}].", ""))
            else:
                self.counts["known before" if result.duplicate else "new"] += 1
                for warning in result.warnings:
                    self.counts[f"with {EventWarning.Code.Name(warning.code).removeprefix('CODE_').lower()}"] += 1
        self._batch.clear()

    def _identify(self, number: int, said: "Identified") -> None:
        from grpc import RpcError, StatusCode

        from offers.v1.profile_pb2 import Profile
        from offers.v1.profile_service_pb2 import LinkIdentitiesRequest, UpdateProfileRequest

        self._agree(said.user)
        try:
            if said.visitors:
                link = LinkIdentitiesRequest(user_id=said.user.user_id, anonymous_ids=said.visitors)
                if said.user.HasField("consent"):
                    link.consent.CopyFrom(said.user.consent)
                self._profiles.LinkIdentities(link, timeout=60)
                self.counts["links"] += 1
            if said.attributes.fields:
                update = UpdateProfileRequest(user=said.user, profile=Profile(attributes=said.attributes))
                self._profiles.UpdateProfile(update, timeout=60)
                self.counts["profiles"] += 1
        except RpcError as error:
            told = _call_error(error)
            if told.code not in {StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION}:
                raise told from None
            self._refuse(number, told.message)

    def _agree(self, user: Any) -> None:  # noqa: ANN401 - User, imported late
        if self._purposes and user.WhichOneof("identity"):
            user.consent.purposes.extend(self._purposes)

    def _refuse(self, number: int, reason: str) -> None:
        self.faults.append(f"{number}: {reason}")
        self.counts["refused"] += 1


def _call_error(error: Any) -> "OffersCallError":  # noqa: ANN401 - grpc.RpcError does not say that it is a Call
    from offers.client import OffersCallError

    return OffersCallError(error.code(), error.details())


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
