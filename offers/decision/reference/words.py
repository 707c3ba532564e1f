"""The wording of verdicts: what was compared with what, and how near a check was to passing.

ExplainOffers, `offers query --explain` and `offers query --map` all use it. Production code for explanations.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from offers.decision.reference.decide import channel_of
from offers.decision.reference.explain import OfferVerdict, Reason, Why
from offers.decision.reference.people import Failed
from offers.decision.reference.places import OfferPlace, pieces_of
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
    REASON_CODE_TIED,
    REASON_CODE_TOO_FAR,
    REASON_CODE_TOO_UNCERTAIN,
    FailedCheck,
)
from offers.v1.venue_pb2 import Circle

CODES = {
    Why.PLACEMENT: REASON_CODE_OTHER_PLACEMENT,
    Why.LANGUAGE: REASON_CODE_OTHER_LANGUAGE,
    Why.CURRENCY: REASON_CODE_OTHER_CURRENCY,
    Why.CHANNEL: REASON_CODE_OTHER_CHANNEL,
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
    Why.FALLBACK: REASON_CODE_FALLBACK_NOT_NEEDED,
    Why.EXCLUSION_GROUP: REASON_CODE_EXCLUSION_GROUP,
    Why.LAYOUT: REASON_CODE_LAYOUT,
    Why.BEYOND: REASON_CODE_OUTRANKED,
    Why.TIED: REASON_CODE_TIED,
}
"""The code of each reason that keeps an offer from the answer. NOT_REDEEMABLE has that of its detail."""
WITHHELD = {CODES[why]: why for why in (Why.FALLBACK, Why.EXCLUSION_GROUP, Why.LAYOUT, Why.BEYOND, Why.TIED)}
"""The reasons that keep an offer that qualifies from the answer, by their codes."""
CHOSEN = {
    Why.RETURNED: "returned",
    Why.OTHER_PLACE: "returned for another place, which is nearer or better",
}
"""Words about an offer that is in the answer."""
_FIELDS = {
    Why.PLACEMENT: "placement_ids", Why.LANGUAGE: "language_codes", Why.CURRENCY: "currency_codes",
    Why.CHANNEL: "channels",
}  # fmt: skip


class Words:
    """Words the verdicts on the offers of one catalogue for one query. Instants are by the clock of the person."""

    def __init__(self, catalog: Catalog, query: Query) -> None:
        self._catalog, self._query = catalog, query
        self._clock = ZoneInfo(query.surface.time_zone or catalog.time_zone or "UTC")

    def checks(self, verdict: OfferVerdict) -> list[FailedCheck]:
        """Return every check that an offer fails, in the order in which they are made."""
        if verdict.rank:
            return []
        placed = verdict.placed
        checks = list(self.reasons(placed.offer, placed.shown.place, placed.reasons))
        checks += map(self._personal, verdict.failed)
        checks.sort(key=lambda check: check.reason)
        return [*checks, *self.reasons(placed.offer, placed.shown.place, verdict.withheld)]

    def reasons(self, offer: Offer, place: OfferPlace, reasons: Iterable[Reason]) -> Iterator[FailedCheck]:
        """Yield a failed check for each reason against an offer at a place."""
        return (self._check(offer, place, reason) for reason in reasons)

    def place(self, offer: Offer, place: OfferPlace) -> str:
        """Name a place of an offer: the id of its venue or zone, else "everywhere", "circle" or "area"."""
        if place.venue is not None:
            return place.venue.venue_id
        if place.piece is None:
            return "everywhere"
        for zone_id in () if place.has_distance else offer.target.zone_ids:
            for piece in pieces_of(self._catalog, zone_id):
                # Areas are parsed once, and hold arrays, which cannot be compared as a whole.
                if piece is place.piece or (isinstance(piece, Circle) and piece == place.piece):
                    return zone_id
        return "circle" if isinstance(place.piece, Circle) else "area"

    def _check(self, offer: Offer, place: OfferPlace, reason: Reason) -> FailedCheck:
        """Word a reason that keeps an offer from the answer."""
        match reason.why:
            case Why.PLACEMENT | Why.LANGUAGE | Why.CURRENCY | Why.CHANNEL:
                detail = self._term(offer, reason.why)
            case Why.NO_LOCATION | Why.OUTSIDE | Why.CUT_OUT | Why.UNLIKELY:
                return self._spatial(offer, place, reason)
            case Why.UNREACHABLE:
                detail = "ends before one can be there"
            case Why.FALLBACK:
                detail = "a fallback, and other offers qualify"
            case Why.EXCLUSION_GROUP:
                detail = "a better one of its exclusion group is in the answer"
            case Why.LAYOUT:
                detail = f"the placement holds no more of its {reason.detail}"
            case Why.BEYOND:
                scores = f"score {reason.value:.3g}, the last of them has {reason.needed:.3g}"
                better = "1 better one is" if reason.detail == "1" else f"{reason.detail} better ones are"
                detail = f"{better} in the answer: {scores}"
            case Why.TIED:
                decides = "the seed" if self._query.seed >= 0 else "the id"
                detail = f"the answer is full, and its last offer has the same score: {decides} decides"
            case _:
                return self._timed(reason)
        return FailedCheck(reason=CODES[reason.why], detail=detail)

    def _term(self, offer: Offer, why: Why) -> str:
        """Word a term of the request that an offer does not fit."""
        asked = channel_of(self._catalog, self._query) if why == Why.CHANNEL else getattr(self._query.surface, why)
        return f"asked for the {why} {asked}, and it is for {', '.join(getattr(offer, _FIELDS[why])) or 'another'}"

    def _spatial(self, offer: Offer, place: OfferPlace, reason: Reason) -> FailedCheck:
        """Word why a location does not count as inside a place."""
        check = FailedCheck(reason=CODES[reason.why])
        if reason.why in {Why.OUTSIDE, Why.UNLIKELY} and reason.metres:
            check.missing_m = reason.metres
        match reason.why:
            case Why.NO_LOCATION:
                check.detail = "there is no location, and it does not allow that"
            case Why.CUT_OUT:
                check.detail = f"in zone {reason.detail}, which is cut out"
            case Why.OUTSIDE:
                gap = f"{reason.metres:,.0f} m" if reason.metres is not None else "somewhere"
                check.detail = f"{gap} outside {self._kind(offer, place)}"
            case _:
                edge = f"; its edge is {reason.metres:,.0f} m away" if reason.metres else ""
                probability = f"{reason.value:.2f}, {reason.needed:.2f} needed{edge}"
                check.detail = f"inside {self._kind(offer, place)} with probability {probability}"
        return check

    def _timed(self, reason: Reason) -> FailedCheck:
        """Word a limit in time."""
        why, what = reason.why, ""
        if why == Why.NOT_REDEEMABLE:
            why, what = Why(reason.detail), "redemption "
        check = FailedCheck(reason=CODES[why])
        if why == Why.OVER:
            check.detail = f"{what}over since {self._instant(reason.until or 0)}"
            return check
        what += {Why.DAYPART: "its daypart ", Why.VENUE_CLOSED: "the venue "}.get(why, "")
        verb = "begins" if why in {Why.NOT_BEGUN, Why.DAYPART} else "opens"
        if reason.until is None:
            check.detail = f"{what}never {verb} within 400 days"
            return check
        wait = _wait(reason.until - self._query.time)
        check.detail = f"{what}{verb} in {wait}, at {self._instant(reason.until)}"
        check.passes_time.seconds = reason.until
        return check

    def _personal(self, failed: Failed) -> FailedCheck:
        """Word a check on the person that fails."""
        check = FailedCheck(reason=failed.reason, detail=failed.words)
        if failed.passes is not None:
            check.detail += f" until {self._instant(failed.passes)}"
            check.passes_time.seconds = failed.passes
        return check

    def _kind(self, offer: Offer, place: OfferPlace) -> str:
        """Name a place with its kind."""
        name = self.place(offer, place)
        if place.venue is not None:
            return f"venue {name}"
        return f"the {name}" if name in {"circle", "area"} else f"zone {name}"

    def _instant(self, second: int) -> str:
        """Word an instant, with its day unless that is the day asked for."""
        when = datetime.fromtimestamp(second, self._clock)
        today = datetime.fromtimestamp(self._query.time, self._clock).date()
        shown = f"{when:%H:%M}" if when.second == 0 else f"{when:%H:%M:%S}"
        if when.date() == today:
            return shown
        return f"{when:%a %-d %b} {shown}" if when.year == today.year else f"{when:%-d %b %Y} {shown}"


def _wait(seconds: int) -> str:
    """Word a length of time, to the minute below a day and to the hour above."""
    if seconds < 60:
        return f"{seconds} s"
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    parts = [(days, "d"), (hours, "h"), (0 if days else minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
