"""The request of `offers query`, made of its options."""

from datetime import UTC, date, datetime, tzinfo
from typing import TYPE_CHECKING
from uuid import uuid4
from zoneinfo import ZoneInfo

import typer

from offers.cli.consent import purposes_of
from offers.cli.query.options import AnswerOptions, WhatOptions, WhenOptions, WhereOptions, WhoOptions

if TYPE_CHECKING:
    from offers.v1.context_pb2 import Context, Session
    from offers.v1.offer_service_pb2 import GetOffersRequest


def moment_of(
    where: WhereOptions, when: WhenOptions, who: WhoOptions, what: WhatOptions, zone: tzinfo | None, *, is_fixed: bool
) -> "Context":  # fmt: skip
    """Return the context of a request; if `is_fixed`, it names its instant even if that is now."""
    from offers.client import context
    from offers.v1.venue_pb2 import TravelMode

    instant = _instant("--at", when.at, zone, datetime.now(zone).date()) if when.at else None
    observed = _observed(where.observed_at, zone, instant)
    if where.moving and observed is None:
        raise typer.BadParameter("--moving says how fast a position grows old: give --observed-at too")
    purposes = purposes_of("--consent", who.consent)
    if purposes is not None and not (who.user or who.anonymous):
        raise typer.BadParameter("--consent is a person's: give --user or --anonymous too")
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
            consent=purposes,
            language=who.language,
            currency=who.currency,
            channel=what.channel,
        )
        if who.session or who.session_start or who.session_entry:
            moment.session.CopyFrom(_session(who, zone))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return moment


def request_of(
    moment: "Context", what: WhatOptions, answer: AnswerOptions, catalog_id: str, *, is_fixed: bool
) -> "GetOffersRequest":  # fmt: skip
    """Return the request for a context; if `is_fixed`, it has an id, so that what is explored is drawn once."""
    from offers.v1.offer_service_pb2 import VIEW_BASIC, VIEW_FULL, GetOffersRequest

    try:
        return GetOffersRequest(
            context=moment,
            placement=what.placement,
            max_offers=what.max_offers,
            view=VIEW_FULL if answer.full else VIEW_BASIC,
            seed=what.seed,
            catalog=catalog_id,
            request_id=uuid4().hex if is_fixed else "",
        )
    except ValueError as error:  # a seed out of range
        raise typer.BadParameter(str(error)) from None


def zone_of(name: str) -> ZoneInfo | None:
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
