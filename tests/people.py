"""Random catalogues with audiences and limits of every kind, and random persons for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.interval_pb2 import Interval
from google.type.money_pb2 import Money
from hypothesis import strategies as st

from offers.catalogue.compile.behaviour import intent_name
from offers.catalogue.expressions import compiled, environment
from offers.catalogue.intents import intents_of
from offers.decision.calendar import period_of
from offers.decision.engine import Engine
from offers.decision.kernels.person.meet import AGREED, BLIND, NAMED
from offers.decision.person import Counted, Person, merged
from offers.decision.reference.behaviour import behaved
from offers.decision.reference.people import KnownPerson
from offers.decision.segments.evaluate import Facts
from offers.model.keys import key_of
from offers.server.people import Met, PersonReader
from offers.state.ledger import Usage
from offers.state.person.basket import fill_in
from offers.v1.audience_pb2 import Audience, Segment
from offers.v1.behaviour_pb2 import BehaviourRule, Intent
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Context, Session, SessionItem, User
from offers.v1.event_pb2 import (
    EVENT_KIND_CLICK,
    EVENT_KIND_DISMISSAL,
    EVENT_KIND_IMPRESSION,
    EVENT_KIND_REDEMPTION,
    EVENT_KIND_UNSPECIFIED,
    EVENT_KIND_VIEW,
)
from offers.v1.experiment_pb2 import Experiment, Variant
from offers.v1.limits_pb2 import Budget, CalendarPeriod, Campaign, CategoryLimit, ContactPolicy, FrequencyCap, Pacing
from offers.v1.offer_pb2 import Availability, Creative, CreativeVariant, Offer, Redemption, Target
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Basket, Profile
from offers.v1.state_pb2 import UserState
from tests.strategies import LAST, ZONES, Maker

SEGMENT_IDS = ("s1", "s2", "s3", "later")
"""Everybody joins the last one at an instant."""
CATEGORIES = ("one", "two", "nowhere")
CAMPAIGN_IDS, POLICY_IDS = ("k1", "k2"), ("p1", "p2")
EXPERIMENT_IDS = ("e1", "e2", "e3")
KINDS = (EVENT_KIND_IMPRESSION, EVENT_KIND_CLICK, EVENT_KIND_DISMISSAL, EVENT_KIND_REDEMPTION)
AGO = (-3_600, -1, 0, 1, 59, 60, 3_599, 3_600, 7_200, 86_399, 86_400, 604_800, 2_000_000)


@dataclass(frozen=True, slots=True)
class Someone(PersonReader):
    """A source of one person, whoever is asked for."""

    person: Person

    def read(self, name: str, grants: int) -> Met:  # noqa: ARG002
        """See PersonReader."""
        return Met("", self.person.draw, self.person.record, self.person.flags)

    def meet(self, engine: Engine, request: GetOffersRequest, second: int) -> tuple[Met, Person]:
        """See PersonReader."""
        facts, encoded = partial(self.facts, engine, self.read("", -1), request, second), request.SerializeToString()
        return self.read("", -1), self.person._replace(request=encoded, facts=facts)

    def facts(self, engine: Engine, met: Met, request: GetOffersRequest, second: int) -> Facts:  # noqa: ARG002
        """See PersonReader."""
        assert self.person.facts is not None
        return self.person.facts()._replace(session=request.context.session, context=request.context)


class PeopleMaker(Maker):
    """A Maker of catalogues mostly about one place, with many rules about persons."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.turn = self.instant()

    def audience(self, share: float) -> Audience | None:
        """Return segments and variants, or none of them."""
        if not self.chance(share):
            return None
        few = [[], [], *([name] for name in SEGMENT_IDS), ["s1", "s2"]]
        pick = self.random.choice
        audience = Audience(any_segment_ids=pick(few), all_segment_ids=pick(few))
        named = {*audience.any_segment_ids, *audience.all_segment_ids}
        audience.none_segment_ids.extend(name for name in pick([[], *few]) if name not in named)
        if self.chance(0.3):
            for name in self.random.sample(EXPERIMENT_IDS, self.random.choice([1, 1, 2])):
                audience.variants.add(experiment_id=name, variant_id=pick(["a", "b"]))
        return audience

    def caps(self, most: int = 2) -> list[FrequencyCap]:
        """Return rolling, calendar and unlimited caps."""
        found = []
        for _ in range(self.random.randint(0, most)):
            cap = FrequencyCap(max_count=self.random.choice([1, 1, 2, 3]), kind=self.random.choice(KINDS))
            kind = self.random.random()
            if kind < 0.4:
                cap.rolling.seconds = self.random.choice([1, 60, 3_600, 86_400, 34_560_000])
            elif kind < 0.8:
                cap.calendar = self.random.choice(CalendarPeriod.values()[1:])
                cap.time_zone = self.random.choice(["", *ZONES])
            found.append(cap)
        return found

    def redemption_caps(self) -> list[FrequencyCap]:
        """Return redemption caps, which may leave their kind out."""
        found = self.caps(1)
        for cap in found:
            cap.kind = self.random.choice([EVENT_KIND_UNSPECIFIED, EVENT_KIND_REDEMPTION])
        return found

    def budget(self, *, may_pace: bool) -> Budget:
        """Return a budget of units, money, or both, in total or by period, perhaps paced."""
        budget = Budget(units=self.random.choice([1, 10, 100]))
        if self.chance(0.4):
            budget.amount.CopyFrom(Money(currency_code="EUR", units=self.random.choice([1, 50]), nanos=10_000_000))
        if self.chance(0.5):
            budget.period = self.random.choice(CalendarPeriod.values()[1:])
            budget.time_zone = self.random.choice(["", *ZONES])
            budget.period_units = self.random.choice([1, 7])
        if may_pace or budget.period:
            budget.pacing = self.random.choice(Pacing.values())
        return budget

    def campaign(self, identity: str) -> Campaign:
        """Return a campaign, perhaps with an end."""
        campaign = Campaign(campaign_id=identity, frequency_caps=self.caps(), audience=self.audience(0.4))
        campaign.redemption_caps.extend(self.redemption_caps())
        if self.chance(0.4):
            campaign.window.CopyFrom(self.window())
        if self.chance(0.4):
            campaign.budget.CopyFrom(self.budget(may_pace=_has_both_ends(campaign.window)))
        campaign.holdout = self.random.choice([0.0, 0.0, 0.25, 0.5])
        return campaign

    def policy(self, identity: str) -> ContactPolicy:
        """Return a contact policy over all offers, or some."""
        policy = ContactPolicy(
            contact_policy_id=identity, frequency_caps=self.caps(), channels=self.some(["app", "web"])
        )
        if self.chance(0.7):
            policy.campaign_ids.extend(self.some(CAMPAIGN_IDS))
            policy.categories.extend(self.some(["one", "two"]))
        if self.chance(0.3):
            policy.quiet_hours = self.weekly_hours()
        for name in ("offer_cool_down", "cool_down"):
            if self.chance(0.4):
                getattr(policy, name).CopyFrom(Duration(seconds=self.random.choice([0, 1, 3_600, 86_400])))
        return policy

    def experiment(self, identity: str) -> Experiment:
        """Return an experiment; two of them share a layer."""
        pick = self.random.choice
        experiment = Experiment(experiment_id=identity, layer=pick(["", "both"]), share=pick([0.2, 0.3]))
        if identity == EXPERIMENT_IDS[0]:
            experiment.layer, experiment.share = "", 1.0
        if self.chance(0.4):
            experiment.window.CopyFrom(Interval(end_time=Timestamp(seconds=self.instant() + 1)))
        if self.chance(0.2):
            experiment.placement_ids.append("home")
        if self.chance(0.3):
            experiment.segment_ids.extend(self.random.sample(SEGMENT_IDS, pick([1, 2])))
        for variant_id in ("a", "b"):
            one = Variant(variant_id=variant_id, ranking_strategy_id=pick(["", "", "", "first", "second"]))
            if self.chance(0.5):
                one.weight = pick([0.5, 3.0])
            experiment.variants.append(one)
        return experiment

    def creative_variant(self, place: int) -> CreativeVariant:
        """Return a creative variant for an audience."""
        one = CreativeVariant(creative=Creative(body=f"other {place}"), audience=self.audience(0.5))
        one.language_codes.extend(self.some(["fr", "de", "pt-BR"]))
        one.channels.extend(self.some(["app", "web"]))
        one.creative_id = self.random.choice(["", f"named-{place}"])
        return one

    def offer(self, number: int) -> Offer:
        """Return a Maker's offer with rules about persons; most are everywhere or at one venue, at any time."""
        offer = super().offer(number)
        if self.chance(0.7):
            offer.ClearField("availability")
            offer.ClearField("redemption")
            offer.target.CopyFrom(Target(everywhere=True) if self.chance(0.5) else Target(venue_ids=["v1"]))
            for name in ("language_codes", "currency_codes", "preferred_daypart_ids"):
                offer.ClearField(name)
            offer.benefit.percent_off = 20
            offer.benefit.ClearField("minimum_order")
            if self.chance(0.3):
                offer.availability.CopyFrom(Availability(windows=[self.window()]))
                offer.redemption.CopyFrom(Redemption(window=self.window(), required_when_shown=self.chance(0.5)))
        offer.campaign_id = self.random.choice(["", *CAMPAIGN_IDS])
        if (audience := self.audience(0.35)) is not None:
            offer.audience.CopyFrom(audience)
        if self.chance(0.4):
            offer.frequency_caps.extend(self.caps())
            offer.redemption_caps.extend(self.redemption_caps())
        if self.chance(0.2):
            windows = offer.availability.windows
            offer.budget.CopyFrom(self.budget(may_pace=bool(windows) and all(map(_has_both_ends, windows))))
        if self.chance(0.3):
            offer.creative_variants.extend(self.creative_variant(place) for place in range(self.random.randint(1, 4)))
        return offer

    def catalog(self, size: int) -> Catalog:
        """Return a catalogue of some offers, with everything they refer to."""
        catalog = super().catalog(0)
        later = datetime.fromtimestamp(self.turn, UTC).isoformat().replace("+00:00", "Z")
        rules = [
            "lower(profile.attributes.s1) == 'yes'", "profile.attributes.s2.lowerAscii() in ['no', 'yes']",
            "profile.attributes.s3 == 'yes'", f"now >= timestamp('{later}')",
        ]  # fmt: skip
        for name, rule in zip(SEGMENT_IDS, rules, strict=True):
            catalog.segments.append(Segment(segment_id=name, expression=rule))
        if self.chance(0.5):
            expressions = ["has(session.basket)", "profile.attributes.s1 == 'yes'", "session.searches.all(one, true)"]
            for name, expression in zip(("buy", "compare", "inspire"), expressions, strict=True):
                catalog.intents.append(Intent(intent_id=name, expression=expression))
        for strategy in catalog.ranking_strategies:
            if self.chance(0.8):
                catalog.default_ranking_strategy_id = strategy.ranking_strategy_id
                strategy.behaviour_rules.extend(map(self.rule, range(self.random.randint(1, 4))))
        catalog.campaigns.extend(map(self.campaign, CAMPAIGN_IDS))
        catalog.contact_policies.extend(map(self.policy, self.some(POLICY_IDS)))
        catalog.experiments.extend(map(self.experiment, EXPERIMENT_IDS))
        if self.chance(0.4) and (caps := self.caps()):
            catalog.category_limits.append(CategoryLimit(category="one", frequency_caps=caps))
        for placement in catalog.placements:
            placement.frequency_caps.extend(self.caps(1))
        catalog.holdout = self.random.choice([0.0, 0.0, 0.0, 0.5])
        catalog.offers.extend(map(self.offer, range(size)))
        return catalog

    def rule(self, number: int) -> BehaviourRule:
        """Return a behaviour rule of any kind."""
        pick = self.random.choice
        rule = BehaviourRule(rule_id=f"r{number}", lift=pick([1.5, 2.0, 100.0]))
        match self.random.randrange(5):
            case 0:
                rule.segment_id = pick(SEGMENT_IDS)
            case 1:
                rule.intent_id = pick(["buy", "compare", "inspire"])
        match pick(["basket", "basket", "viewed", "viewed", "category", "brand", "campaign_id"]):
            case "basket":
                rule.basket.idle.seconds = pick([0, 0, 60, 3_600])
                if self.chance(0.5):
                    rule.basket.within.seconds = pick([3_601, 7_200, 86_400])
            case "viewed":
                rule.viewed.SetInParent()
                if self.chance(0.5):
                    rule.viewed.within.seconds = pick([1, 3_600, 86_400])
            case "category":
                rule.category = pick(CATEGORIES)
            case "brand":
                rule.brand = pick(["acme", "one", "nobody"])
            case _:
                rule.campaign_id = pick(CAMPAIGN_IDS)
        return rule

    def session(self, time: int) -> Session:
        """Return a session with what the app knows by an instant."""
        session, ago = Session(), (-3_600, 0, 1, 59, 60, 1_799, 1_800, 3_599, 3_600, 7_200)
        for name in self.some(CATEGORIES):
            session.viewed_categories[name].seconds = min(max(time - self.random.choice(ago), 0), LAST)
        for name in self.some(["checkout_started", "help_opened"]):
            session.micro_conversions[name].seconds = time
        if self.chance(0.4):
            session.basket.items.extend(SessionItem(category=name) for name in ["", *self.some(CATEGORIES)])
            if self.chance(0.7):
                session.basket.update_time.seconds = min(max(time - self.random.choice(ago), 0), LAST)
        return session

    def history(self, time: int) -> UserState:
        """Return the state that events have left of a basket and of views."""
        state, pick = UserState(), self.random.choice
        seconds = sorted(max(time - pick(AGO), 0) for _ in range(self.random.choice([0, 0, 1, 3, 8])))
        for second in seconds:
            step = state.basket_steps.add(event_time=Timestamp(seconds=second), product_id=pick(["p", "q"]))
            step.category, step.venue_id, step.quantity = (
                pick(["", *CATEGORIES]),
                pick(["", "v1"]),
                pick([-2, -1, 1, 2]),
            )
        for second in seconds:
            kind = pick([*KINDS, EVENT_KIND_VIEW])
            state.recent.add(kind=kind, event_time=Timestamp(seconds=second), category=pick(["", *CATEGORIES]))
        return state

    def known(self, catalog: Catalog, time: int) -> KnownPerson:
        """Return a person with events around an instant, and the usage of budgets by then."""
        pick, blind = self.random.choice, self.chance(0.1)
        counted: dict[tuple[str, str, int], Sequence[int]] = {}
        for what, names in (
            ("offer", [offer.offer_id for offer in catalog.offers]),
            ("campaign", CAMPAIGN_IDS),
            ("category", ["one"]),
            ("placement", ["home", "map"]),
            ("contact_policy", POLICY_IDS),
        ):
            for name in names:
                for kind in KINDS:
                    if self.chance(0.15):
                        seconds = (max(time - pick(AGO), 0) for _ in range(self.random.randint(1, 4)))
                        counted[what, name, kind] = tuple(sorted(seconds))
        used: dict[tuple[str, int], tuple[int, int]] = {}
        for key, budget in budgets_of(catalog).items():
            if self.chance(0.7):
                used[key, 0] = pick([0, 1, 5, 9, 70]), pick([0, 900_000, 40_000_000])
                if budget.period:
                    begin, _ = period_of(budget.period, budget.time_zone or catalog.time_zone or "UTC", time)
                    used[key, begin] = pick([0, 1, 3, 6]), 0
        if blind:
            return KnownPerson(
                draw=self.random.getrandbits(63), segments=self.segments([], time), used=used, blind=True
            )
        return KnownPerson(
            draw=pick([0, self.random.getrandbits(63) - 2**62, self.random.getrandbits(63)]),
            variant_draw=pick([0, 0, self.random.getrandbits(63) - 2**62]),
            segments=self.segments([name for name in SEGMENT_IDS[:-1] if self.chance(0.5)], time),
            counted=counted,
            assigned=[(name, pick(["a", "b", "gone"])) for name in EXPERIMENT_IDS if self.chance(0.3)],
            used=used,
        )

    def segments(self, names: Sequence[str], time: int) -> frozenset[str]:
        """Return some segments, and from its instant on the one that everybody joins."""
        return frozenset([*names, SEGMENT_IDS[-1]] if time >= self.turn else names)


def behaving(catalog: Catalog, known: KnownPerson, session: Session, state: UserState, time: int) -> KnownPerson:
    """Return a person with a session and, unless it is unreadable, the state that events have left."""
    basket, profile = Basket(), Profile()
    if not known.blind:
        fill_in(basket, state.basket_steps)
        profile.attributes.update(dict.fromkeys(known.segments, "yes"))
    did = behaved(session, basket, [] if known.blind else state.recent, time)
    values = {"session": session, "user": User(), "profile": profile, "context": Context(session=session)}
    activation = environment().Activation({**values, "now": Timestamp(seconds=time)})
    intents = {
        intent_name(name)
        for name, intent in intents_of(catalog.intents).items()
        if compiled(intent.expression).eval(activation).value() is True
    }
    return replace(known, did=did, segments=known.segments | intents)


def person_of(known: KnownPerson, time: int, catalog_id: str = "random", did: UserState | None = None) -> Person:
    """Return the same person as decisions read it; `did` is the state that events have left."""
    counted = [
        Counted(key_of(what, catalog_id, name), kind, tuple(seconds))
        for (what, name, kind), seconds in known.counted.items()
    ]
    state = UserState(draw=known.draw, variant_draw=known.variant_draw)
    if did is not None:
        state.MergeFrom(did)
    state.counters, state.times = merged(b"", b"", counted)
    state.profile.attributes.update(dict.fromkeys(known.segments, "yes"))
    for experiment, variant in known.assigned:
        state.assignments.add(experiment_id=experiment, variant_id=variant)

    def facts() -> Facts:
        return Facts(User(), Session(), Context(), state.profile, time)

    flags = NAMED | AGREED | (BLIND if known.blind else 0)
    return Person(known.draw, state.SerializeToString(), b"", -1, flags, facts)


def usages_of(known: KnownPerson, catalog_id: str = "random") -> list[Usage]:
    """Return the usage of budgets as ledgers return it."""
    return [Usage(f"{catalog_id}/{key}", period, *amounts) for (key, period), amounts in known.used.items()]


def budgets_of(catalog: Catalog) -> dict[str, Budget]:
    """Return all budgets, by their names."""
    found = {f"offer:{one.offer_id}": one.budget for one in catalog.offers if one.HasField("budget")}
    return found | {f"campaign:{one.campaign_id}": one.budget for one in catalog.campaigns if one.HasField("budget")}


def _has_both_ends(window: Interval) -> bool:
    return bool(window.HasField("start_time") and window.HasField("end_time"))


people_makers = st.builds(PeopleMaker, st.integers(0, 2**32 - 1))
"""Makers of every seed."""
