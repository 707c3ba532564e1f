"""The story of one person, told by a real server in this process: `offers demo story`."""

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from offers import demo
from offers.cli.words import reason_words
from offers.client import OffersCallError, OffersClient, context
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, ConsentGrants, User
from offers.v1.event_pb2 import BasketChange, Event, Item, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult, ReportEventsRequest
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    ExportProfileRequest,
    LinkIdentitiesRequest,
    UpdateProfileRequest,
)

CATALOGUE = Path(demo.__file__).with_name("story.yaml")
PARIS = ZoneInfo("Europe/Paris")
AGREED = ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING])
VISITOR = User(anonymous_id="phone-of-ada", consent=AGREED)
ADA = User(user_id="ada@example.com", consent=AGREED)
BEN = User(user_id="ben@example.com", consent=AGREED)

Say = Callable[[str], None]


class _Story:
    """A server with its clock and clients, and a way to print."""

    def __init__(self, served: Served, clock: "_Clock", say: Say) -> None:
        self._client = OffersClient(served.target)
        self._upkeep = served.worker.upkeep
        self._clock, self._say = clock, say
        self._count = 0

    def at(self, hours: int, minutes: int, what: str) -> None:
        """Set the clock, and print what happens then."""
        self._clock.second = datetime(2026, 11, 24, hours, minutes, tzinfo=PARIS).timestamp()
        self._say(f"\n{hours}:{minutes:02}  {what}")

    def show(self, user: User, whose: str) -> list[str]:
        """Request and print the offers of the first screen; return their ids."""
        asked = context(lat=48.8690, lng=2.3650, time_zone="Europe/Paris")
        asked.user.CopyFrom(user)
        response = self._client.get_offers(GetOffersRequest(context=asked, placement="home"))
        self._say(f"       {whose}:")
        for offer in response.offers:
            self._say(f"         {offer.rank}. {offer.title}  ({reason_words(offer)})")
        if not response.offers:
            self._say("         nothing")
        return [offer.offer_id for offer in response.offers]

    def report(self, user: User, **what: object) -> EventResult:
        """Report an event that happens now; return its result."""
        self._count += 1
        now = Timestamp(seconds=int(self._clock.second))
        event = Event(event_id=f"story-{self._count}", user=user, event_time=now, **what)  # type: ignore[arg-type]
        results: Sequence[EventResult] = self._client.report_events(ReportEventsRequest(events=[event])).results
        return results[0]

    def redeem(self, user: User, redemption_id: str, phase: "RedemptionEvent.Phase.ValueType") -> str:
        """Report a step of a redemption of the last bowl; return its outcome in words."""
        step = RedemptionEvent(phase=phase, redemption_id=redemption_id)
        status = self.report(user, offer_id="last-bowl", redemption=step).status
        self._upkeep.follow_budgets()  # as every worker does four times a second
        return status.message or "done"

    def link(self) -> None:
        """Link the visitor with Ada, and make her a member."""
        ids = [VISITOR.anonymous_id]
        self._client.link_identities(LinkIdentitiesRequest(user_id=ADA.user_id, anonymous_ids=ids, consent=AGREED))
        profile = Profile()
        profile.attributes.update({"member": True})
        self._client.update_profile(UpdateProfileRequest(user=ADA, profile=profile))

    def erase(self) -> str:
        """Erase Ada; return the status of an export of what is left."""
        erased = self._client.delete_profile(DeleteProfileRequest(user=ADA))
        self._say(f"       {erased.event_count} events erased")
        try:
            self._client.export_profile(ExportProfileRequest(user=ADA))
        except OffersCallError as error:
            return error.code.name
        return "something"

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class _Clock:
    """The server's clock."""

    second = datetime(2026, 11, 24, 11, 50, tzinfo=PARIS).timestamp()

    def __call__(self) -> float:
        return self.second


def tell(say: Say) -> None:
    """Print the story of Ada, line by line. Raises OffersError where a call fails."""
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="offers-story-") as folder:
        with serving(CATALOGUE, clock=clock, data_dir=Path(folder)) as served:
            story = _Story(served, clock, say)
            try:
                _tell(story, say)
            finally:
                story.close()
        files = [path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()]
        found = sum(name.encode() in content for content in files for name in (ADA.user_id, VISITOR.anonymous_id))
        say(f"       Her ids in all the files that the server leaves behind: found {found} times.")


def _tell(story: _Story, say: Say) -> None:
    story.at(11, 50, "Somebody opens the app, 200 m from the noodle bar. Nobody knows who, but profiling is agreed to.")
    story.show(VISITOR, "the phone")
    story.at(11, 55, "A bowl of ramen goes into the basket; then the phone goes into the pocket.")
    ramen = Item(product_id="ramen", category="ramen", venue_id="noodle-bar")
    story.report(VISITOR, add_to_cart=BasketChange(items=[ramen]))
    story.at(12, 30, "The phone comes out again. The basket was left behind: there is an offer for that.")
    story.show(VISITOR, "the phone")
    story.at(12, 32, "It is Ada, who signs in; she is a member. On her laptop she is the same person.")
    story.link()
    story.show(ADA, "the laptop")
    story.at(12, 35, "The lunch was on her screens twice by now, once on each; twice a day is enough.")
    story.report(VISITOR, offer_id="lunch", placement="home", impression={})
    story.report(ADA, offer_id="lunch", placement="home", impression={})
    story.show(ADA, "the laptop")
    story.at(12, 36, "She puts the newsletter away: it stays away, on the phone as well.")
    story.report(ADA, offer_id="newsletter", dismissal={})
    story.show(VISITOR, "the phone")
    story.at(12, 40, "There is one last bowl. Ada's till reserves it; Ben, a second later, is too late.")
    say(f"       Ada reserves: {story.redeem(ADA, 'r-1', RedemptionEvent.PHASE_RESERVE)}")
    say(f"       Ben reserves: {story.redeem(BEN, 'r-2', RedemptionEvent.PHASE_RESERVE)}")
    say(f"       Ada eats it: {story.redeem(ADA, 'r-1', RedemptionEvent.PHASE_CONFIRM)}")
    story.at(12, 45, "Ada wants to be forgotten.")
    say(f"       What is held of her: {story.erase()}")
    late = story.report(ADA, offer_id="lunch", impression={})
    say(f"       A late event of hers: {late.warnings[0].message if late.warnings else 'kept'}")
    story.show(ADA, "the laptop, as if she had never been there")
