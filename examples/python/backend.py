"""A backend that asks for offers, shows them, and reports what the person does with them."""

import math
import sys
import time
import uuid
from dataclasses import dataclass

from offers.client import OffersCallError, OffersClient, context, person
from offers.v1.event_pb2 import Click, Event, Impression
from offers.v1.event_service_pb2 import EventResult, ReportEventsRequest
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse, Proposition, ReasonCode

TIMEOUT_S = 5.0
"""The first call connects. Once connected, 0.2 is usual."""
Point = tuple[float, float]
"""Latitude and longitude in degrees."""


@dataclass(frozen=True)
class Answer:
    """A response, kept for as long, and as far, as the server promises that it holds."""

    point: Point
    response: GetOffersResponse

    def holds(self, point: Point) -> bool:
        """Return whether the response may still be shown at a point."""
        if time.time() >= self.response.refresh_after.seconds:
            return False
        limited = self.response.HasField("refresh_distance_m")
        return not limited or metres(self.point, point) < self.response.refresh_distance_m


class Backend:
    """Serves one app screen. It is one person's, so that it keeps one answer."""

    def __init__(self, target: str, anonymous_id: str) -> None:
        self._client = OffersClient(target, timeout_s=TIMEOUT_S)
        self._user = person(anonymous_id=anonymous_id)
        self._kept: Answer | None = None

    def show(self, point: Point) -> tuple[GetOffersResponse, bool]:
        """Return the offers for a point, and whether the server was asked. Raises OffersCallError."""
        if self._kept is not None and self._kept.holds(point):
            return self._kept.response, False
        where = context(lat=point[0], lng=point[1], anonymous_id=self._user.anonymous_id)
        response = self._client.get_offers(GetOffersRequest(context=where, request_id=str(uuid.uuid4())))
        self._kept = Answer(point, response)
        return response, True

    def report(self, shown: Proposition) -> list[EventResult]:
        """Tell the server that the person saw, and opened, an offer. Raises OffersCallError."""
        events = [self._event(shown), self._event(shown)]
        events[0].impression.CopyFrom(Impression())
        events[1].click.CopyFrom(Click())
        return list(self._client.report_events(ReportEventsRequest(events=events)).results)

    def _event(self, shown: Proposition) -> Event:
        event_id = str(uuid.uuid4())
        return Event(event_id=event_id, user=self._user, offer_id=shown.offer_id, proposition_id=shown.proposition_id)


def metres(a: Point, b: Point) -> float:
    """Return the great-circle distance; half a percent off the ellipsoid's, so a backend may want a margin."""
    x = math.radians(b[1] - a[1]) * math.cos(math.radians((a[0] + b[0]) / 2))
    return 6_371_008.8 * math.hypot(x, math.radians(b[0] - a[0]))


def main(target: str) -> None:
    """Show the offers at one place twice, report on the first offer, and ask for a place that does not exist."""
    backend = Backend(target, "example-python")
    for _ in range(2):  # the second time, the answer that is kept still holds
        response, asked = backend.show((48.8674, 2.3636))
        print(f"asked={str(asked).lower()} until {response.refresh_after.ToJsonString()}")
        for offer in response.offers:
            print(f"{offer.rank}. {offer.title}", *map(ReasonCode.Name, offer.reasons))
    for result in backend.report(response.offers[0]):
        print(f"reported: {str(not result.HasField('status')).lower()}")
    try:
        backend.show((91.0, 0.0))
    except OffersCallError as error:
        for violation in error.violations:
            print(f"refused: {violation.field}: {violation.reason}")


if __name__ == "__main__":
    main(sys.argv[1])
