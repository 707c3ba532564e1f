"""Every check that an offer fails, in words: what was compared with what, and how near it was to passing."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from zoneinfo import ZoneInfo

from offers.decision.reference import decide as reference
from offers.decision.reference.decide import Found, Ranked
from offers.decision.reference.explain import Reason, Why, gap_of, judged
from offers.decision.reference.people import Failed, Known, against
from offers.decision.reference.places import Place, pieces_of, places_of
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Offer
from offers.v1.offer_service_pb2 import (
    REASON_CODE_CLOSED,
    REASON_CODE_ENDS_TOO_SOON,
    REASON_CODE_EXCLUSION_GROUP,
    REASON_CODE_FALLBACK_NOT_NEEDED,
    REASON_CODE_IN_EXCLUDED_ZONE,
    REASON_CODE_LAYOUT,
    REASON_CODE_NEEDS_LOCATION,
    REASON_CODE_NOT_BEGUN,
    REASON_CODE_OTHER_CHANNEL,
    REASON_CODE_OTHER_CURRENCY,
    REASON_CODE_OTHER_LANGUAGE,
    REASON_CODE_OTHER_PLACEMENT,
    REASON_CODE_OUTRANKED,
    REASON_CODE_OVER,
    REASON_CODE_TOO_FAR,
    REASON_CODE_TOO_UNCERTAIN,
    ReasonCode,
)
from offers.v1.venue_pb2 import Circle

_TERMS = {
    "placement": REASON_CODE_OTHER_PLACEMENT,
    "language": REASON_CODE_OTHER_LANGUAGE,
    "currency": REASON_CODE_OTHER_CURRENCY,
    "channel": REASON_CODE_OTHER_CHANNEL,
}
_FIELDS = {
    "placement": "placement_ids", "language": "language_codes", "currency": "currency_codes", "channel": "channels",
}  # fmt: skip
_CODES = {
    Why.NO_LOCATION: REASON_CODE_NEEDS_LOCATION,
    Why.OUTSIDE: REASON_CODE_TOO_FAR,
    Why.CUT_OUT: REASON_CODE_IN_EXCLUDED_ZONE,
    Why.UNLIKELY: REASON_CODE_TOO_UNCERTAIN,
    Why.OVER: REASON_CODE_OVER,
    Why.NOT_BEGUN: REASON_CODE_NOT_BEGUN,
    Why.CLOSED: REASON_CODE_CLOSED,
    Why.DAYPART: REASON_CODE_CLOSED,
    Why.VENUE_CLOSED: REASON_CODE_CLOSED,
    Why.UNREACHABLE: REASON_CODE_ENDS_TOO_SOON,
}


@dataclass(frozen=True, slots=True)
class Miss:
    """A check that fails, and by how much."""

    reason: ReasonCode.ValueType
    detail: str
    missing_m: float | None = None
    passes: int | None = None
    """The first second at which it passes, where that is known."""

    @classmethod
    def needless(cls) -> Self:
        """Of a fallback, where others qualify."""
        return cls(REASON_CODE_FALLBACK_NOT_NEEDED, "a fallback, and other offers qualify")

    @classmethod
    def outdone(
        cls, own: Ranked, limits: Iterable[str], ranked: Iterable[Ranked], ranks: Mapping[str, int]
    ) -> list[Self]:
        """Of an offer that qualifies, where the answer has others instead: by the limits of `reference.laid_out`."""
        last = min((one.log_score for one in ranked if one.offer_id in ranks), default=own.log_score)
        words = f"score {math.exp(own.log_score):.3g}, the last of them has {math.exp(last):.3g}"
        found = []
        for limit in limits:
            if limit == "group":
                detail = "a better one of its exclusion group is in the answer"
                found.append(cls(REASON_CODE_EXCLUSION_GROUP, detail))
            elif limit != "most":
                found.append(cls(REASON_CODE_LAYOUT, f"the placement holds no more of its {limit}"))
        return found or [cls(REASON_CODE_OUTRANKED, f"{len(ranks)} better ones are in the answer: {words}")]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of an offer."""

    offer: Offer
    found: Found | None
    """Its best place, where it qualifies in place and time."""
    misses: tuple[Miss, ...]
    """All checks it fails by itself, in the order they are made; how it does beside others is not among them."""
    place: str
    """The place that is told of, as an id or in words."""


def judge(catalog: Catalog, query: Query, known: Known, answered: Iterable[str] = ()) -> Iterator[Judged]:
    """The verdict on each offer of a catalogue, or of a part of one with all that its offers refer to.

    Of an offer that fails at all its places, the one with the fewest failures, and of these the nearest, is told of.
    Those that are `answered` pass whatever only rounding could refuse.
    """
    channel, passed = reference.channel_of(catalog, query), frozenset(answered)
    zone = query.surface.time_zone or catalog.time_zone or "UTC"
    for offer in catalog.offers:
        found, tried = [], list[tuple[int, float, Place, list[Reason]]]()
        for place in places_of(catalog, offer):
            gap = gap_of(place, query)
            reasons, one = judged(catalog, offer, place, query, gap)
            if one is not None:
                found.append(one)
            tried.append((len(reasons), gap or 0.0, place, reasons))
        best = reference.best_of(found)
        misses = [_refused(offer, name, query, channel) for name in reference.refusals(offer, query, channel)]
        _, _, place, reasons = min(tried, key=lambda one: one[:2])
        if best is None:
            misses += [_missed(catalog, offer, place, reason, query, zone) for reason in reasons]
        misses += [_personal(failed, query, zone) for failed in against(catalog, offer, query, channel, known)]
        misses.sort(key=lambda miss: miss.reason)
        if offer.offer_id in passed:
            misses = []
        yield Judged(offer, best, tuple(misses), place_words(catalog, offer, best.place if best else place))


def place_words(catalog: Catalog, offer: Offer, place: Place) -> str:
    """Name a place of an offer: the id of the venue or zone, or its kind."""
    if place.venue is not None:
        return place.venue.venue_id
    if place.piece is None:
        return "everywhere"
    for zone_id in () if place.has_distance else offer.target.zone_ids:
        if any(piece is place.piece or piece == place.piece for piece in pieces_of(catalog, zone_id)):
            return zone_id
    return "circle" if isinstance(place.piece, Circle) else "area"


def _refused(offer: Offer, name: str, query: Query, channel: str) -> Miss:
    asked = channel if name == "channel" else getattr(query.surface, name)
    has = ", ".join(getattr(offer, _FIELDS[name])) or "another"
    return Miss(_TERMS[name], f"asked for the {name} {asked}, and it is for {has}")


def _missed(catalog: Catalog, offer: Offer, place: Place, reason: Reason, query: Query, zone: str) -> Miss:
    name = place_words(catalog, offer, place)
    code = _CODES.get(reason.why)
    match reason.why:
        case Why.NO_LOCATION:
            detail = "there is no location, and it does not allow that"
        case Why.OUTSIDE:
            gap = f"{reason.metres:,.0f} m" if reason.metres is not None else "somewhere"
            detail = f"{gap} outside {_kind(place, name)}"
        case Why.UNLIKELY:
            away = f"; its edge is {reason.metres:,.0f} m away" if reason.metres else ""
            detail = (
                f"inside {_kind(place, name)} with probability {reason.chance:.2f}, {reason.needed:.2f} needed{away}"
            )
        case Why.CUT_OUT:
            detail = f"in zone {reason.detail}, which is cut out"
        case Why.UNREACHABLE:
            detail = "ends before one can be there"
        case _:
            return _in_time(reason, query, zone)
    missing = (reason.metres or None) if reason.why in {Why.OUTSIDE, Why.UNLIKELY} else None
    return Miss(code or REASON_CODE_CLOSED, detail, missing_m=missing)


def _in_time(reason: Reason, query: Query, zone: str) -> Miss:
    """What is a matter of windows and hours."""
    why, what = reason.why, ""
    if why == Why.NOT_REDEEMABLE:
        why, what = Why(reason.detail), "redemption "
    if why == Why.OVER:
        return Miss(REASON_CODE_OVER, f"{what}over since {_instant(reason.until or 0, query.time, zone)}")
    whose = {Why.DAYPART: "its daypart ", Why.VENUE_CLOSED: "the venue "}.get(why, "")
    verb = "begins" if why in {Why.NOT_BEGUN, Why.DAYPART} else "opens"
    code = _CODES[why]
    if reason.until is None:
        return Miss(code, f"{what}{whose}never {verb} within 400 days")
    wait = _wait(reason.until - query.time)
    when = _instant(reason.until, query.time, zone)
    return Miss(code, f"{what}{whose}{verb} in {wait}, at {when}", passes=reason.until)


def _personal(failed: Failed, query: Query, zone: str) -> Miss:
    until = f" until {_instant(failed.passes, query.time, zone)}" if failed.passes is not None else ""
    return Miss(failed.reason, failed.words + until, passes=failed.passes)


def _kind(place: Place, name: str) -> str:
    if place.venue is not None:
        return f"venue {name}"
    return f"the {name}" if name in {"circle", "area"} else f"zone {name}"


def _wait(seconds: int) -> str:
    """A length of time in words, to the minute below a day and to the hour above."""
    if seconds < 60:
        return f"{seconds} s"
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    parts = [(days, "d"), (hours, "h"), (0 if days else minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _instant(second: int, now: int, zone: str) -> str:
    """An instant by the clock of a zone, with its day where that is not today's."""
    clock = ZoneInfo(zone)
    when, today = datetime.fromtimestamp(second, clock), datetime.fromtimestamp(now, clock).date()
    shown = f"{when:%H:%M}" if when.second == 0 else f"{when:%H:%M:%S}"
    if when.date() == today:
        return shown
    return f"{when:%a %-d %b} {shown}" if when.year == today.year else f"{when:%-d %b %Y} {shown}"
