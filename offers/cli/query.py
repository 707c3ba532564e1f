"""`offers query`: one question to a running server, and its answer as a table."""

import math
from datetime import UTC, date, datetime, time, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from offers.cli.output import fail, stderr, stdout
from offers.model.query import MAX_OFFERS

if TYPE_CHECKING:
    from rich.table import Table

    from offers.client import OffersCallError
    from offers.v1.catalog_pb2 import Catalog
    from offers.v1.context_pb2 import Session
    from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse, Proposition

ASKED_WRONGLY, NO_SERVER = 2, 3


class Moving(StrEnum):
    """How a person moves: the names of TravelMode, which takes long to import."""

    WALKING = "walking"
    CYCLING = "cycling"
    TRANSIT = "transit"
    DRIVING = "driving"


def query(  # noqa: PLR0913 - what a context may say
    *,
    lat: Annotated[float | None, typer.Option(help="Latitude in degrees.", rich_help_panel="Where")] = None,
    lng: Annotated[float | None, typer.Option(help="Longitude in degrees.", rich_help_panel="Where")] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            min=0,
            help="Radius that holds the true position in 68 % of cases. \\[default: exact]",
            rich_help_panel="Where",
        ),
    ] = None,
    observed_at: Annotated[
        str,
        typer.Option(
            help="When the position was measured, written as --at is; a time of day is of the day of --at. Since then "
            "the radius has grown. \\[default: at the instant asked for]",
            rich_help_panel="Where",
        ),
    ] = "",
    moving: Annotated[
        Moving | None,
        typer.Option(
            help="How the person has moved since --observed-at. \\[default: walking]",
            rich_help_panel="Where",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            help="Instant: 2026-11-24T12:15:00+01:00, or '2026-11-24 12:15' or 12:15 in the time zone. "
            "\\[default: now]",
            rich_help_panel="When",
        ),
    ] = "",
    time_zone: Annotated[
        str,
        typer.Option(
            help="The person's IANA time zone; the answer is told by its clock. \\[default: the catalogue's, and this "
            "machine's clock]",
            rich_help_panel="When",
        ),
    ] = "",
    user: Annotated[str, typer.Option(help="Id of a signed-in person.", rich_help_panel="Who")] = "",
    anonymous: Annotated[str, typer.Option(help="Id of a visitor not signed in.", rich_help_panel="Who")] = "",
    session: Annotated[str, typer.Option(help="Id of the visit.", rich_help_panel="Who")] = "",
    session_start: Annotated[
        str, typer.Option(help="When the visit began, written as --at is.", rich_help_panel="Who")
    ] = "",
    session_entry: Annotated[
        str, typer.Option(metavar="CHANNEL", help="How the person came, such as push.", rich_help_panel="Who")
    ] = "",
    language: Annotated[str, typer.Option(help="Language, such as fr or pt-BR.", rich_help_panel="Who")] = "",
    currency: Annotated[str, typer.Option(help="Currency, such as EUR.", rich_help_panel="Who")] = "",
    channel: Annotated[str, typer.Option(help="Channel, such as app or email.", rich_help_panel="What")] = "",
    placement: Annotated[str, typer.Option(help="Placement to fill.", rich_help_panel="What")] = "",
    catalog: Annotated[
        str,
        typer.Option(
            help="Catalogue to ask, if there are several; with --map, the document that the server serves.",
            rich_help_panel="What",
        ),
    ] = "",
    max_offers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_OFFERS,
            help="The most offers to show, to 100. \\[default: 10]",
            rich_help_panel="What",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Orders offers of equal score: 0 to 2^64 - 1.", rich_help_panel="What"),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Show how each score comes about.", rich_help_panel="Answer")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the response as JSON.", rich_help_panel="Answer")
    ] = False,
    explain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OFFER_ID",
            help="Tell why an offer is in the answer, or why not; may be repeated.",
            rich_help_panel="Answer",
        ),
    ] = None,
    map_: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.geojson",
            help="Write what was considered, and why it is in the answer or not, for a map viewer. Needs --catalog.",
            rich_help_panel="Map",
        ),
    ] = None,
    map_radius: Annotated[
        float, typer.Option(metavar="METRES", min=0, help="How far off places may be.", rich_help_panel="Map")
    ] = 5_000.0,
    target: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where it listens.", rich_help_panel="Server")
    ] = "localhost:50051",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", rich_help_panel="Server")] = 5.0,
) -> None:
    """Ask a running server for the offers of one context, best first.

    With --map, places near the location are written to a GeoJSON file, each
    with its offer and the verdict on it; green is returned, grey is not.

    Exit status 2: the server refuses the request; 3: there is no server.
    """
    from google.protobuf.json_format import MessageToJson

    from offers.client import OffersCallError, OffersClient, context
    from offers.v1.offer_service_pb2 import (
        VIEW_BASIC,
        VIEW_FULL,
        ExplainOffersRequest,
        ExplainOffersResponse,
        GetOffersRequest,
    )
    from offers.v1.venue_pb2 import TravelMode

    zone = _zone(time_zone)
    instant = _instant("--at", at, zone, datetime.now(zone).date()) if at else None
    observed = _observed(observed_at, zone, instant)
    if moving and observed is None:
        raise typer.BadParameter("--moving says how fast a position grows old: give --observed-at too")
    document = _document(map_, catalog)
    if document is not None:
        catalog = document.catalog_id
    try:
        moment = context(
            lat=lat,
            lng=lng,
            accuracy_m=accuracy,
            observed_at=observed,
            movement=TravelMode.Value(f"TRAVEL_MODE_{moving.name if moving else 'UNSPECIFIED'}"),
            # A map, or an explanation, is of the instant of the answer, so that has to be known.
            at=instant if instant or not (map_ or explain) else datetime.now(UTC),
            time_zone=time_zone,
            user_id=user,
            anonymous_id=anonymous,
            language=language,
            currency=currency,
            channel=channel,
        )
        begun = _instant("--session-start", session_start, zone, datetime.now(zone).date()) if session_start else None
        if session or begun or session_entry:
            moment.session.CopyFrom(_session(session, begun, session_entry))
        view = VIEW_FULL if full else VIEW_BASIC
        request = GetOffersRequest(
            context=moment, placement=placement, max_offers=max_offers, view=view, seed=seed, catalog=catalog
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    explained = ExplainOffersResponse()
    with OffersClient(target, timeout_s=timeout) as client:
        try:
            if explain:
                explained = client.explain(ExplainOffersRequest(request=request, offer_ids=explain), timeout_s=timeout)
                response = explained.response
            else:
                response = client.get_offers(request)
        except OffersCallError as error:
            raise typer.Exit(_refused(error, target)) from None
    if as_json:
        told = explained if explain else response
        typer.echo(MessageToJson(told, preserving_proto_field_name=True, ensure_ascii=False))
    else:
        _show(request, response, zone)
        if explain:
            from offers.cli.explanation import show

            show(stdout(), explained.explanations)
    if map_ is not None and document is not None:
        _write_map(map_, document, request, response, map_radius)


def _document(file: Path | None, path: str) -> "Catalog | None":
    """Read the document that a map is drawn from; None: no map is wanted."""
    if file is None:
        return None
    if file.suffix.lower() not in {".geojson", ".json"}:
        message = f"--map '{file}': name it .geojson or .json"
        raise typer.BadParameter(message)
    if not path:
        message = "--map needs --catalog PATH: the document that the server serves, such as catalog.yaml"
        raise typer.BadParameter(message)
    from offers.cli.geojson import read_catalog

    with stderr().status(f"reading {path}"):
        return read_catalog(Path(path))


def _write_map(
    file: Path, document: "Catalog", request: "GetOffersRequest", response: "GetOffersResponse", radius_m: float
) -> None:
    from offers.cli.geojson import features_of, write_map
    from offers.server.convert import query_of

    with stderr().status(f"working out {file}"):
        features = features_of(document, query_of(request, request.context.time.seconds), response, radius_m)
    try:
        write_map(file, features)
    except OSError as error:
        raise typer.Exit(fail(f"cannot write {file}: {error.strerror}")) from None
    places = [one["properties"] for one in features if one["properties"]["kind"] == "place"]
    shown = sum(one["verdict"] == "returned" for one in places)
    typer.echo(f"{len(places):,} places near, {shown:,} returned; written to {file}", err=True)


def _zone(name: str) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, not a name, a folder of names
        message = f"unknown time zone '{name}': give an IANA name such as Europe/Paris"
        raise typer.BadParameter(message) from None


def _instant(option: str, text: str, zone: tzinfo | None, day: date) -> datetime:
    """Read an instant, or a time of a day; without an offset it is by the clock of the zone, or of this machine."""
    try:
        try:
            instant = datetime.combine(day, time.fromisoformat(text))
        except ValueError:
            instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone) if zone else instant.astimezone()
        instant.timestamp()
    except (ValueError, OverflowError):
        message = f"{option} '{text}' is no instant: give 2026-11-24T12:15:00+01:00, '2026-11-24 12:15' or 12:15"
        raise typer.BadParameter(message) from None
    return instant


def _observed(text: str, zone: tzinfo | None, asked: datetime | None) -> datetime | None:
    """Read --observed-at, for the instant asked for; None: not given."""
    if not text:
        return None
    asked = asked or datetime.now(UTC)
    observed = _instant("--observed-at", text, zone, asked.astimezone(zone).date())
    if observed > asked:
        message = f"--observed-at '{text}' is after the instant asked for, {asked.astimezone(zone):%Y-%m-%d %H:%M}: "
        raise typer.BadParameter(message + "give an earlier one, with its day")
    return observed


def _session(session_id: str, begun: datetime | None, entry_channel: str) -> "Session":
    from offers.v1.context_pb2 import Session

    session = Session(session_id=session_id, entry_channel=entry_channel)
    if begun is not None:
        session.start_time.FromDatetime(begun.astimezone(UTC))
    return session


def _refused(error: "OffersCallError", target: str) -> int:
    """Say why there is no answer, and give the exit status."""
    code = error.code.name
    if code == "UNAVAILABLE":
        message = f"no server at {target}: start one with 'offers serve', or name another with --target"
        return fail(message, status=NO_SERVER)
    if code == "DEADLINE_EXCEEDED":
        return fail(f"no answer from {target} in time: allow it more with --timeout", status=NO_SERVER)
    if not error.violations:
        return fail(str(error))
    fail("the server refuses the request:")
    for violation in error.violations:
        typer.echo(f"  {violation.field}: {violation.reason}", err=True)
    return ASKED_WRONGLY


def _show(request: "GetOffersRequest", response: "GetOffersResponse", zone: tzinfo | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from offers.cli.words import benefit_words, distance_words, local, reason_words, until_words

    console = stdout()
    moment = request.context
    asked = local(moment.time.seconds, zone) if moment.HasField("time") else datetime.now(zone).astimezone(zone)
    point = moment.location.point
    place = f"{point.latitude:g}, {point.longitude:g}" if moment.HasField("location") else "nowhere in particular"
    table = Table(title=f"{place} · {asked:%a %-d %b %Y %H:%M} {zone or asked.tzname()}", title_justify="left")
    for heading, right in (("", True), ("offer", False), ("benefit", False), ("distance", True), ("why", False),
                           ("valid until", True), ("score", True)):  # fmt: skip
        table.add_column(heading, justify="right" if right else "left")
    for offer in response.offers:
        far = distance_words(offer.distance_m) if offer.HasField("distance_m") else ""
        words = (offer.title, benefit_words(offer.benefit), far, reason_words(offer), until_words(offer, asked, zone))
        table.add_row(str(offer.rank), *map(Text, words), f"{offer.score:#.3g}")
    if response.offers:
        console.print(table)
    else:
        console.print("No offer qualifies here and now.")
    for offer in response.offers:
        if offer.factors:
            console.print(_factors(offer))
    end = local(response.refresh_after.seconds, zone)
    holds = f"holds until {end:%H:%M:%S}" if end.date() == asked.date() else f"holds until {end:%a %-d %b %H:%M:%S}"
    if response.HasField("refresh_distance_m"):
        holds += f" and within {distance_words(math.floor(response.refresh_distance_m))}"
    model = f" · model {response.model_version}" if response.model_version else ""
    console.print(
        f"{response.eligible_count:,} eligible · catalogue version {response.catalog_version}{model} · {holds}"
    )
    for missing in response.degraded:
        stderr().print(Text(f"degraded: without {missing.dependency}: {missing.rule}"))


def _factors(offer: "Proposition") -> "Table":
    """Show how a score comes about: the contributions add up to its logarithm."""
    from rich.table import Table
    from rich.text import Text

    from offers.v1.offer_service_pb2 import FactorName

    table = Table("factor", title=Text(f"{offer.rank}. {offer.title}"), title_justify="left", show_footer=True)
    table.add_column("value ^ weight", footer=f"score {offer.score:#.3g}", justify="right")
    total = sum(factor.log_contribution for factor in offer.factors)
    table.add_column("log contribution", footer=f"{total:+.4f}", justify="right")
    for factor in offer.factors:
        name = FactorName.Name(factor.name).removeprefix("FACTOR_NAME_").lower()
        table.add_row(name, f"{factor.value:.4f} ^ {factor.weight:g}", f"{factor.log_contribution:+.4f}")
    if offer.HasField("selection_probability"):
        table.caption = f"in {offer.selection_probability:.0%} of such answers, as exploration draws"
    return table
