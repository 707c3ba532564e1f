"""`offers query`: one request to a running server, and its answer as a table, as JSON or on a map."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, tzinfo
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer

from offers.cli.options import grouped
from offers.cli.output import fail, stderr, stdout
from offers.model.query import MAX_OFFERS

if TYPE_CHECKING:
    from rich.table import Table

    from offers.client import OffersCallError, OffersClient
    from offers.v1.catalog_pb2 import Catalog
    from offers.v1.context_pb2 import Context, Session
    from offers.v1.offer_service_pb2 import (
        ExplainOffersRequest,
        ExplainOffersResponse,
        GetOffersRequest,
        GetOffersResponse,
        OfferExplanation,
        Proposition,
    )

ASKED_WRONGLY, NO_SERVER = 2, 3
BATCH = 200
"""Offers that the server explains in one call for a map: some tenths of a second of its time."""


class Moving(StrEnum):
    """How a person moves, by the names of TravelMode, which takes long to import."""

    WALKING = "walking"
    CYCLING = "cycling"
    TRANSIT = "transit"
    DRIVING = "driving"


class WhereOptions(NamedTuple):
    """The location of the person."""

    lat: Annotated[float | None, typer.Option(help="Latitude in degrees.")] = None
    lng: Annotated[float | None, typer.Option(help="Longitude in degrees.")] = None
    accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="METRES", min=0, help="Radius that holds the true position in 68 % of cases. \\[default: exact]"
        ),
    ] = None
    observed_at: Annotated[
        str,
        typer.Option(
            help="When the position was measured, written like --at; a time of day is on the day of --at. Its radius "
            "has grown since then. \\[default: at the instant asked for]"
        ),
    ] = ""
    moving: Annotated[
        Moving | None,
        typer.Option(help="How the person has moved since --observed-at. \\[default: walking]", show_default=False),
    ] = None


class WhenOptions(NamedTuple):
    """The instant asked for."""

    at: Annotated[
        str,
        typer.Option(
            help="Instant: 2026-11-24T12:15:00+01:00, or '2026-11-24 12:15' or 12:15 in the time zone. \\[default: now]"
        ),
    ] = ""
    time_zone: Annotated[
        str,
        typer.Option(
            help="The person's IANA time zone; the answer is printed by its clock. \\[default: the catalogue's, and "
            "this machine's clock]"
        ),
    ] = ""


class WhoOptions(NamedTuple):
    """The person, and their visit."""

    user: Annotated[str, typer.Option(help="Id of a signed-in person.")] = ""
    anonymous: Annotated[str, typer.Option(help="Id of a visitor who is not signed in.")] = ""
    session: Annotated[str, typer.Option(help="Id of the visit.")] = ""
    session_start: Annotated[str, typer.Option(help="When the visit began, written like --at.")] = ""
    session_entry: Annotated[str, typer.Option(metavar="CHANNEL", help="How the person came, such as push.")] = ""
    language: Annotated[str, typer.Option(help="Language, such as fr or pt-BR.")] = ""
    currency: Annotated[str, typer.Option(help="Currency, such as EUR.")] = ""


class WhatOptions(NamedTuple):
    """The offers asked for."""

    channel: Annotated[str, typer.Option(help="Channel, such as app or email.")] = ""
    placement: Annotated[str, typer.Option(help="Placement to fill.")] = ""
    catalog: Annotated[
        str,
        typer.Option(help="Catalogue to ask, if there are several; with --map, the document that the server serves."),
    ] = ""
    max_offers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=MAX_OFFERS, help="Offers to return, from 1 to 100. \\[default: 10]"),
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Orders offers of equal score: 0 to 2^64 - 1.")] = None


class AnswerOptions(NamedTuple):
    """The form of the answer."""

    full: Annotated[bool, typer.Option("--full", help="Show the factors of each score.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as JSON.")] = False
    explain: Annotated[
        list[str] | None,
        typer.Option(metavar="OFFER_ID", help="Tell why an offer is in the answer, or why not; may be repeated."),
    ] = None


class MapOptions(NamedTuple):
    """The map of the answer."""

    map_: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.geojson",
            help="Write what was considered, and why it is in the answer or not, for a map viewer. Needs --catalog.",
        ),
    ] = None
    map_radius: Annotated[float, typer.Option(metavar="METRES", min=0, help="How far off places may be.")] = 5_000.0


class ServerOptions(NamedTuple):
    """The server to ask."""

    target: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the server.")] = "localhost:50051"
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 5.0


@grouped
def query(
    where: WhereOptions,
    when: WhenOptions,
    who: WhoOptions,
    what: WhatOptions,
    answer: AnswerOptions,
    map_: MapOptions,
    server: ServerOptions,
) -> None:
    """Ask a running server for the offers of one context, best first.

    With --map, places near the location are written to a GeoJSON file, each
    with its offer and the verdict on it; green is returned, grey is not.

    Exit status 2: the server refuses the request; 3: there is no server.
    """
    from offers.client import OffersCallError, OffersClient
    from offers.v1.offer_service_pb2 import ExplainOffersRequest, ExplainOffersResponse

    zone = _zone(when.time_zone)
    moment = _moment(where, when, who, what, zone, is_fixed=bool(map_.map_ or answer.explain))
    document = _document(map_.map_, what.catalog)
    request = _request(moment, what, answer, document)
    with OffersClient(server.target, timeout_s=server.timeout) as client:
        try:
            if answer.explain:
                asked = ExplainOffersRequest(request=request, offer_ids=answer.explain)
                explained = client.explain(asked, timeout_s=server.timeout)
            else:
                explained = ExplainOffersResponse(response=client.get_offers(request))
            _print(request, explained, answer, zone)
            if map_.map_ is not None and document is not None:
                _write_map(map_, document, client, request, explained.response, server.timeout)
        except OffersCallError as error:
            raise typer.Exit(_refused(error, server.target)) from None


def _moment(
    where: WhereOptions, when: WhenOptions, who: WhoOptions, what: WhatOptions, zone: tzinfo | None, *, is_fixed: bool
) -> "Context":  # fmt: skip
    """Return the context of a request; if `is_fixed`, it names its instant even if that is now."""
    from offers.client import context
    from offers.v1.venue_pb2 import TravelMode

    instant = _instant("--at", when.at, zone, datetime.now(zone).date()) if when.at else None
    observed = _observed(where.observed_at, zone, instant)
    if where.moving and observed is None:
        raise typer.BadParameter("--moving says how fast a position grows old: give --observed-at too")
    try:
        moment = context(
            lat=where.lat,
            lng=where.lng,
            accuracy_m=where.accuracy,
            observed_at=observed,
            movement=TravelMode.Value(f"TRAVEL_MODE_{where.moving.name if where.moving else 'UNSPECIFIED'}"),
            at=datetime.now(UTC) if is_fixed and instant is None else instant,
            time_zone=when.time_zone,
            user_id=who.user,
            anonymous_id=who.anonymous,
            language=who.language,
            currency=who.currency,
            channel=what.channel,
        )
        if who.session or who.session_start or who.session_entry:
            moment.session.CopyFrom(_session(who, zone))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return moment


def _request(
    moment: "Context", what: WhatOptions, answer: AnswerOptions, document: "Catalog | None"
) -> "GetOffersRequest":
    """Return the request for a context; with a document, of its catalogue."""
    from offers.v1.offer_service_pb2 import VIEW_BASIC, VIEW_FULL, GetOffersRequest

    try:
        return GetOffersRequest(
            context=moment,
            placement=what.placement,
            max_offers=what.max_offers,
            view=VIEW_FULL if answer.full else VIEW_BASIC,
            seed=what.seed,
            catalog=what.catalog if document is None else document.catalog_id,
        )
    except ValueError as error:  # a seed out of range
        raise typer.BadParameter(str(error)) from None


def _print(
    request: "GetOffersRequest", explained: "ExplainOffersResponse", answer: AnswerOptions, zone: tzinfo | None
) -> None:  # fmt: skip
    """Print an answer, and its explanations where they were asked for."""
    from google.protobuf.json_format import MessageToJson

    if answer.as_json:
        told = explained if answer.explain else explained.response
        typer.echo(MessageToJson(told, preserving_proto_field_name=True, ensure_ascii=False))
        return
    _show(request, explained.response, zone)
    if answer.explain:
        from offers.cli.explanation import show

        show(stdout(), explained.explanations)


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
    wanted: MapOptions,
    document: "Catalog",
    client: "OffersClient",
    request: "GetOffersRequest",
    response: "GetOffersResponse",
    timeout_s: float,
) -> None:
    """Write the map of an answer. Raises OffersCallError."""
    from offers.cli.geojson import OfferMap, write_map
    from offers.server.convert import query_of

    file = wanted.map_ or Path()
    with stderr().status(f"working out {file}"):
        drawn = OfferMap(document, query_of(request, request.context.time.seconds), response, wanted.map_radius)
        features = drawn.features(
            _explanations(partial(client.explain, timeout_s=timeout_s), request, response, drawn.offer_ids)
        )
    try:
        write_map(file, features)
    except OSError as error:
        raise typer.Exit(fail(f"cannot write {file}: {error.strerror}")) from None
    places = [one["properties"] for one in features if one["properties"]["kind"] == "place"]
    shown = sum(one["verdict"] == "returned" for one in places)
    typer.echo(f"{len(places):,} places near, {shown:,} returned; written to {file}", err=True)


def _explanations(
    explain: "Callable[[ExplainOffersRequest], ExplainOffersResponse]",
    request: "GetOffersRequest",
    response: "GetOffersResponse",
    offer_ids: Sequence[str],
) -> "dict[str, OfferExplanation]":
    """Return the server's explanations of some offers, by id, for an answer it gave. Raises OffersCallError."""
    from offers.v1.offer_service_pb2 import ExplainOffersRequest

    answer = [one.offer_id for one in response.offers]
    found = {}
    for begin in range(0, len(offer_ids), BATCH):
        asked = ExplainOffersRequest(request=request, offer_ids=offer_ids[begin : begin + BATCH])
        explained = explain(asked)
        if answer != [one.offer_id for one in explained.response.offers]:
            message = "the answer changed while it was explained: ask again, with --seed where the placement explores"
            raise typer.Exit(fail(message))
        found.update({one.offer_id: one for one in explained.explanations})
    return found


def _zone(name: str) -> ZoneInfo | None:
    """Return the time zone of a name; None: no name is given."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, not a name, a folder of names
        message = f"unknown time zone '{name}': give an IANA name such as Europe/Paris"
        raise typer.BadParameter(message) from None


def _instant(option: str, text: str, zone: tzinfo | None, day: date) -> datetime:
    """Read an instant, or a time of a day; without an offset by the clock of the zone, else of this machine."""
    from offers.model import rfc3339

    try:
        clock = rfc3339.time_of_day(text)
        instant = rfc3339.wall_time(text).moment() if clock is None else datetime.combine(day, clock)
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


def _session(who: WhoOptions, zone: tzinfo | None) -> "Session":
    """Return the visit of a person."""
    from offers.v1.context_pb2 import Session

    session = Session(session_id=who.session, entry_channel=who.session_entry)
    if who.session_start:
        begun = _instant("--session-start", who.session_start, zone, datetime.now(zone).date())
        session.start_time.FromDatetime(begun.astimezone(UTC))
    return session


def _refused(error: "OffersCallError", target: str) -> int:
    """Print why there is no answer, and return the exit status."""
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
    """Print an answer as a table, the factors of its scores, and how long it holds."""
    from rich.text import Text

    from offers.cli.words import local

    console, moment = stdout(), request.context
    asked = local(moment.time.seconds, zone) if moment.HasField("time") else datetime.now(zone).astimezone(zone)
    if response.offers:
        console.print(_offers(request, response, asked, zone))
    else:
        console.print("No offer qualifies here and now.")
    for offer in response.offers:
        if offer.factors:
            console.print(_factors(offer))
    model = f" · model {response.model_version}" if response.model_version else ""
    console.print(
        f"{response.eligible_count:,} eligible · catalogue version {response.catalog_version}{model} · "
        f"{_holds(response, asked, zone)}"
    )
    for missing in response.degraded:
        stderr().print(Text(f"degraded: without {missing.dependency}: {missing.rule}"))


def _offers(
    request: "GetOffersRequest", response: "GetOffersResponse", asked: datetime, zone: tzinfo | None
) -> "Table":  # fmt: skip
    """Return the table of the offers of an answer."""
    from rich.table import Table
    from rich.text import Text

    from offers.cli.words import benefit_words, distance_words, reason_words, until_words

    location = request.context.location
    place = "nowhere in particular"
    if request.context.HasField("location"):
        place = f"{location.point.latitude:g}, {location.point.longitude:g}"
    table = Table(title=f"{place} · {asked:%a %-d %b %Y %H:%M} {zone or asked.tzname()}", title_justify="left")
    for heading, right in (("", True), ("offer", False), ("benefit", False), ("distance", True), ("why", False),
                           ("valid until", True), ("score", True)):  # fmt: skip
        table.add_column(heading, justify="right" if right else "left")
    for offer in response.offers:
        far = distance_words(offer.distance_m) if offer.HasField("distance_m") else ""
        words = (offer.title, benefit_words(offer.benefit), far, reason_words(offer), until_words(offer, asked, zone))
        table.add_row(str(offer.rank), *map(Text, words), f"{offer.score:#.3g}")
    return table


def _holds(response: "GetOffersResponse", asked: datetime, zone: tzinfo | None) -> str:
    """Word how long, and within which distance, an answer holds."""
    from offers.cli.words import distance_words, local

    end = local(response.refresh_after.seconds, zone)
    holds = f"holds until {end:%H:%M:%S}" if end.date() == asked.date() else f"holds until {end:%a %-d %b %H:%M:%S}"
    if response.HasField("refresh_distance_m"):
        holds += f" and within {distance_words(math.floor(response.refresh_distance_m))}"
    return holds


def _factors(offer: "Proposition") -> "Table":
    """Return the table of the factors of a score: their contributions add up to its logarithm."""
    from rich.table import Table
    from rich.text import Text

    from offers.cli.words import factor_name

    table = Table("factor", title=Text(f"{offer.rank}. {offer.title}"), title_justify="left", show_footer=True)
    table.add_column("value ^ weight", footer=f"score {offer.score:#.3g}", justify="right")
    total = sum(factor.log_contribution for factor in offer.factors)
    table.add_column("log contribution", footer=f"{total:+.4f}", justify="right")
    for factor in offer.factors:
        table.add_row(factor_name(factor), f"{factor.value:.4f} ^ {factor.weight:g}", f"{factor.log_contribution:+.4f}")
    if offer.HasField("selection_probability"):
        table.caption = f"in {offer.selection_probability:.0%} of such answers, as exploration draws"
    return table
