"""Random catalogues whose segments change with time, and persons, budgets and instants for them."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from offers.decision.calendar import period_of
from offers.state.ledger import Usage
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_PROFILING,
    ConsentPurpose,
    User,
)
from offers.v1.offer_service_pb2 import GetOffersRequest, SeenOffer
from offers.v1.state_pb2 import Leaning, UserState
from tests.people import CATEGORIES, KINDS, PeopleMaker, budgets_of, person_of
from tests.strategies import LAST

DAY = 86_400
TIMED = (
    "profile.life_cycle == LifeCycle.LIFE_CYCLE_NEW",
    "profile.life_cycle in [LifeCycle.LIFE_CYCLE_LAPSING, LifeCycle.LIFE_CYCLE_INACTIVE]",
    "profile.order_count > 0 && profile.life_cycle != LifeCycle.LIFE_CYCLE_ACTIVE",
    "profile.journey_phase == JourneyPhase.JOURNEY_PHASE_BROWSING",
    "profile.journey_phase in [JourneyPhase.JOURNEY_PHASE_CHOOSING, JourneyPhase.JOURNEY_PHASE_CHECKOUT]",
    "now - profile.last_order_time > duration('2h')",
    "has(profile.last_seen_time) && now - profile.last_seen_time <= duration('90s')",
    "now.getHours('Europe/Paris') >= 12 && now.getMinutes('Europe/Paris') < 30",
    "now.getDayOfWeek('America/New_York') in [0, 6]",
    "now < timestamp('2026-06-15T12:00:01Z') || profile.attributes.s1 == 'yes'",
    "session.viewed_categories.exists(one, now - session.viewed_categories[one] < duration('1h'))",
    "profile.affinities.categories.one > 0.1",
    "has(context.time) && context.time > timestamp('2026-10-25T01:00:00Z')",
    "profile.attributes.s2 == 'yes'",
    "context.channel == 'app' || session.entry_channel == 'push'",
)
PURPOSES: tuple[Sequence[ConsentPurpose.ValueType] | None, ...] = (
    None,
    (),
    (CONSENT_PURPOSE_CONTEXTUAL,),
    (CONSENT_PURPOSE_PROFILING,),
    (CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING),
)
_AGES = (-60, 0, 1, 60, 1_799, 1_800, 5_400, 7_200, DAY, 30 * DAY, 30 * DAY + 30, 90 * DAY, 91 * DAY)


class MomentMaker(PeopleMaker):
    """A PeopleMaker whose segments depend on time, with records as stores keep them."""

    def catalog(self, size: int) -> Catalog:
        """Return a catalogue; all its segments but the last are those of TIMED."""
        catalog = super().catalog(size)
        for segment in catalog.segments[:-1]:
            segment.expression = self.random.choice(TIMED)
        for offer in catalog.offers:
            if not offer.HasField("budget") and self.chance(0.4):
                offer.budget.CopyFrom(self.budget(may_pace=False))
        return catalog

    def record(self, catalog: Catalog, time: int) -> UserState:
        """Return the record of a person, as events around an instant have left it."""
        known = self.known(catalog, time)
        state = UserState.FromString(person_of(known, time, did=self.history(time)).record)
        if self.chance(0.7):
            first, last, ordered = (self.ago(time) for _ in range(3))
            state.profile.first_seen_time.seconds, state.profile.last_seen_time.seconds = min(first, last), last
            if self.chance(0.5):
                state.profile.order_count = self.random.choice([1, 2])
                state.profile.last_order_time.CopyFrom(Timestamp(seconds=ordered, nanos=500_000_000))
        if self.chance(0.3):
            second = self.ago(time)
            for name in ("", *CATEGORIES[:2]):
                state.leanings.add(dimension=Leaning.DIMENSION_CATEGORY, name=name, weight=1.0, second=second)
        return state

    def ago(self, time: int) -> int:
        """Return an instant before another, or soon after it."""
        return min(max(time - self.random.choice(_AGES), 0), LAST)

    def asked(self, catalog: Catalog, user_id: str) -> GetOffersRequest:
        """Return the request of a person, or of nobody in particular, with or without consent."""
        request, purposes = self.request(catalog), self.random.choice(PURPOSES)
        time = request.context.time.seconds
        if self.chance(0.7):
            request.context.session.CopyFrom(self.session(time))
        if self.chance(0.8):
            request.context.user.CopyFrom(User(user_id=user_id))
            if purposes is not None:
                request.context.user.consent.purposes.extend(purposes)
                request.context.user.consent.SetInParent()
        if self.chance(0.2) and catalog.offers:
            offer_id = self.random.choice(catalog.offers).offer_id
            times = [Timestamp(seconds=self.ago(time))]
            request.seen.append(SeenOffer(offer_id=offer_id, kind=self.random.choice(KINDS), times=times))
        return request

    def usages(self, catalog: Catalog, *instants: int) -> list[Usage]:
        """Return what is used of budgets in all, and in the periods around some instants."""
        pick, found = self.random.choice, []
        for key, budget in budgets_of(catalog).items():
            name = f"{catalog.catalog_id}/{key}"
            if self.chance(0.7):
                found.append(Usage(name, 0, pick([0, 0, 5, 9, 70]), pick([0, 900_000, 40_000_000])))
            if not budget.period:
                continue
            zone = budget.time_zone or catalog.time_zone or "UTC"
            begins = {period_of(budget.period, zone, instant)[0] for instant in instants}
            most = budget.period_units
            found += [Usage(name, begin, pick([0, most // 2, most]), 0) for begin in sorted(begins) if self.chance(0.7)]
        return found
