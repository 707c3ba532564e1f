"""The part of the specification that concerns people: who may be shown an offer, and in which variant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from google.protobuf.duration_pb2 import Duration
from google.type.interval_pb2 import Interval
from google.type.money_pb2 import Money

from offers.catalogue.hours.schedules import NEVER, SchedulePart, zone_clock
from offers.decision.budgets import PACED, plan_allows
from offers.decision.calendar import period_of
from offers.decision.reference.behaviour import Behaved
from offers.decision.reference.models import Taught
from offers.model.hashing import SPLITMIX_STEP, finished_in_python
from offers.model.keys import key_of
from offers.model.money import MICROS, micros_of
from offers.model.query import Query
from offers.v1.audience_pb2 import Audience
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.event_pb2 import EVENT_KIND_DISMISSAL, EVENT_KIND_IMPRESSION, EVENT_KIND_REDEMPTION, EventKind
from offers.v1.experiment_pb2 import Experiment
from offers.v1.limits_pb2 import Budget, Campaign, ContactPolicy, FrequencyCap
from offers.v1.offer_pb2 import CreativeVariant, Offer
from offers.v1.offer_service_pb2 import (
    REASON_CODE_BUDGET_EXHAUSTED,
    REASON_CODE_CAPPED,
    REASON_CODE_COOLING_DOWN,
    REASON_CODE_DEGRADED,
    REASON_CODE_HOLDOUT,
    REASON_CODE_IN_EXCLUDED_SEGMENT,
    REASON_CODE_NOT_IN_SEGMENTS,
    REASON_CODE_OTHER_VARIANT,
    REASON_CODE_PACED,
    REASON_CODE_PRESSURE,
    REASON_CODE_QUIET_HOURS,
    ReasonCode,
)

Span = tuple[int, int]
"""Seconds since 1970; the end is exclusive, NEVER for none."""


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """A person as decisions know them, with the use of budgets and the model. The default is nobody in particular."""

    draw: int = 0
    """The signed 64-bit number by which variants and holdouts are drawn; 0: nobody in particular."""
    segments: frozenset[str] = frozenset()
    """The segments the person is in, with the intents that hold, named by catalogue.compile.behaviour.intent_name."""
    counted: Mapping[tuple[str, str, int], Sequence[int]] = field(default_factory=dict)
    """Instants of events, in seconds, by the kind of limit that counts them ("offer", "campaign", "category",
    "placement" or "contact_policy"), its id, and the event's kind."""
    assigned: Sequence[tuple[str, str]] = ()
    """The experiments and variants the person was exposed to, the earliest first."""
    used: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """Units and millionths of money used, by budget ("offer:" or "campaign:", and the id) and the first second of the
    period; 0: in all."""
    blind: bool = False
    """Whether the person's state could not be read."""
    did: Behaved = field(default_factory=Behaved)
    """The recent behaviour of the person."""
    taught: Taught | None = None
    """The model with the values it sees; None: there is no model."""
    variant_draw: int = 0
    """The number by which the variants of experiments are drawn to which the person was not exposed; 0: `draw`."""


NOBODY = KnownPerson()


@dataclass(frozen=True, slots=True)
class Failed:
    """A check on the person that fails."""

    reason: ReasonCode.ValueType
    words: str
    """The comparison that was made."""
    passes: int | None = None
    """The first second at which it passes by time alone; None: there is none, or it is not known."""


def against(catalog: Catalog, offer: Offer, query: Query, channel: str, known: KnownPerson) -> list[Failed]:
    """Return all checks on the person that fail for an offer, in this order.

    1. Segments and variants of the offer, then of its campaign.
    2. Holdouts of the catalogue, then of the campaign.
    3. Caps of the offer, its campaign, its category and the placement.
    4. Contact policies: the caps, the quiet hours and the cool-downs of each.
    5. Budgets of the offer, then of its campaign.
    """
    campaign = campaign_of(catalog, offer) or Campaign()
    return [
        *outside(offer.audience, "", catalog, query, known),
        *outside(campaign.audience, f" of campaign {campaign.campaign_id}", catalog, query, known),
        *_held_out(catalog, offer, campaign, known),
        *_capped(catalog, offer, campaign, query, known),
        *_pressed(catalog, offer, query, channel, known),
        *_spent(catalog, offer, campaign, query, known),
    ]


def campaign_of(catalog: Catalog, offer: Offer) -> Campaign | None:
    """Return the campaign of an offer; None: it has none."""
    return next((one for one in catalog.campaigns if offer.campaign_id == one.campaign_id), None)


def outside(audience: Audience, whose: str, catalog: Catalog, query: Query, known: KnownPerson) -> Iterator[Failed]:
    """Yield each part of an audience that the person is outside of; `whose` completes the words."""
    wanted, needed, unwanted = audience.any_segment_ids, audience.all_segment_ids, audience.none_segment_ids
    missing = [name for name in needed if name not in known.segments]
    if wanted and known.segments.isdisjoint(wanted):
        yield Failed(REASON_CODE_NOT_IN_SEGMENTS, f"in none of the segments{whose}: {_listed(wanted)}")
    if missing:
        yield Failed(REASON_CODE_NOT_IN_SEGMENTS, f"not in all segments{whose}: {_listed(missing)} missing")
    if excluded := [name for name in unwanted if name in known.segments]:
        yield Failed(REASON_CODE_IN_EXCLUDED_SEGMENT, f"in segments that are left out{whose}: {_listed(excluded)}")
    if audience.variants:
        has = variants_of(catalog, query, known)
        if not any(has.get(one.experiment_id) == one.variant_id for one in audience.variants):
            asked = [f"{one.experiment_id}/{one.variant_id}" for one in audience.variants]
            experiments = dict.fromkeys(one.experiment_id for one in audience.variants)
            own = [f"{name}/{has.get(name, 'none')}" for name in experiments]
            yield Failed(REASON_CODE_OTHER_VARIANT, f"for the variants{whose} {_listed(asked)}, has {_listed(own)}")


def _held_out(catalog: Catalog, offer: Offer, campaign: Campaign, known: KnownPerson) -> Iterator[Failed]:
    """Yield each holdout that the person is in."""
    holdouts = [
        ("campaign", campaign.campaign_id, campaign.holdout),
        ("holdout", "", 0.0 if offer.fallback else catalog.holdout),
    ]
    for kind, name, share in reversed(holdouts):
        if known.draw and share_of(known.draw, key_of(kind, catalog.catalog_id, name)) < share:
            whose = f"campaign {name}" if name else "the catalogue"
            yield Failed(REASON_CODE_HOLDOUT, f"among the {share:.3g} of persons held out of {whose}")


def _capped(catalog: Catalog, offer: Offer, campaign: Campaign, query: Query, known: KnownPerson) -> Iterator[Failed]:
    """Yield each frequency cap that is reached, contact policies aside."""
    limit = next((one for one in catalog.category_limits if one.category == offer.category), None)
    placement = next((one for one in catalog.placements if one.placement_id == query.surface.placement), Placement())
    for what, name, caps in (
        ("offer", offer.offer_id, [*offer.frequency_caps, *_on_redemptions(offer.redemption_caps)]),
        ("campaign", campaign.campaign_id, [*campaign.frequency_caps, *_on_redemptions(campaign.redemption_caps)]),
        ("category", offer.category, limit.frequency_caps if limit else ()),
        ("placement", placement.placement_id, placement.frequency_caps),
    ):
        for cap in caps:
            whose = "" if what == "offer" else f" of {what} {name}"
            yield from _over(catalog, cap, (what, name), whose, REASON_CODE_CAPPED, query, known)


def _on_redemptions(caps: Iterable[FrequencyCap]) -> Iterator[FrequencyCap]:
    """Yield redemption caps as caps on the kind of event they count."""
    for cap in caps:
        counting = FrequencyCap(kind=EVENT_KIND_REDEMPTION)
        counting.MergeFrom(cap)
        yield counting


def _pressed(catalog: Catalog, offer: Offer, query: Query, channel: str, known: KnownPerson) -> Iterator[Failed]:
    """Yield each check of the contact policies over an offer that fails."""
    for policy in catalog.contact_policies:
        if not _covers(policy, offer) or (channel and policy.channels and channel not in policy.channels):
            continue
        name = policy.contact_policy_id
        if known.blind and (policy.frequency_caps or policy.cool_down.seconds):
            yield Failed(REASON_CODE_DEGRADED, f"what counts for policy {name} cannot be read")
        for cap in policy.frequency_caps:
            whose = f" of policy {name}"
            yield from _over(catalog, cap, ("contact_policy", name), whose, REASON_CODE_PRESSURE, query, known)
        if policy.quiet_hours:
            zone = query.surface.time_zone or catalog.time_zone or "UTC"
            part = SchedulePart((policy.quiet_hours,), zone, catalog.country_code)
            is_quiet, until = part.at(query.time, zone_clock(zone))
            if is_quiet:
                words = f"quiet hours {policy.quiet_hours} of policy {name} by {zone}"
                yield Failed(REASON_CODE_QUIET_HOURS, words, until if until != NEVER else None)
        for what, whose, duration in (
            (("offer", offer.offer_id), "it was put away", policy.offer_cool_down),
            (("contact_policy", name), f"an offer of policy {name} was put away", policy.cool_down),
        ):
            yield from _cooling(what, whose, duration, query, known)


def _covers(policy: ContactPolicy, offer: Offer) -> bool:
    """Return whether a contact policy covers an offer."""
    return (
        not (policy.campaign_ids or policy.categories)
        or bool(offer.campaign_id and offer.campaign_id in policy.campaign_ids)
        or bool(offer.category and offer.category in policy.categories)
    )


def _over(
    catalog: Catalog, cap: FrequencyCap, what: tuple[str, str], whose: str, reason: ReasonCode.ValueType, query: Query,
    known: KnownPerson,
) -> Iterator[Failed]:  # fmt: skip
    """Yield a cap that is reached."""
    kind, time = cap.kind or EVENT_KIND_IMPRESSION, query.time
    since, passes = 0, None
    match cap.WhichOneof("window"):
        case "rolling":
            since = time - cap.rolling.seconds + 1
        case "calendar":
            since, passes = period_of(cap.calendar, cap.time_zone or catalog.time_zone or "UTC", time)
    counted = sorted(second for second in known.counted.get((*what, kind), ()) if since <= second <= time)
    if len(counted) < cap.max_count:
        return
    if cap.WhichOneof("window") == "rolling":
        passes = counted[-cap.max_count] + cap.rolling.seconds
    name = EventKind.Name(kind).removeprefix("EVENT_KIND_").lower().replace("_", " ")
    yield Failed(reason, f"cap {len(counted)}/{cap.max_count} ({name}{whose})", passes)


def _cooling(
    what: tuple[str, str], whose: str, duration: Duration, query: Query, known: KnownPerson
) -> Iterator[Failed]:  # fmt: skip
    """Yield a cool-down that is not over; `whose` begins the words."""
    dismissed = known.counted.get((*what, EVENT_KIND_DISMISSAL), ())
    last = max((second for second in dismissed if second <= query.time), default=None)
    if last is not None and last > query.time - duration.seconds:
        words = f"{whose} {_lasting(query.time - last)} ago, and cools down for {_lasting(duration.seconds)}"
        yield Failed(REASON_CODE_COOLING_DOWN, words, last + duration.seconds)


def _spent(catalog: Catalog, offer: Offer, campaign: Campaign, query: Query, known: KnownPerson) -> Iterator[Failed]:
    """Yield each limit of the budgets of an offer and its campaign that fails."""
    if offer.HasField("budget"):
        key = f"offer:{offer.offer_id}"
        yield from _without(catalog, offer.budget, key, _shown_in(offer, campaign), query.time, known)
    if campaign.HasField("budget"):
        key = f"campaign:{campaign.campaign_id}"
        yield from _without(catalog, campaign.budget, key, _span(campaign.window), query.time, known)


def _without(
    catalog: Catalog, budget: Budget, key: str, window: Span, time: int, known: KnownPerson
) -> Iterator[Failed]:
    """Yield each limit of a budget that is used up, or whose use is ahead of the plan."""
    begin, end = window
    in_all, in_period = known.used.get((key, 0), (0, 0)), (0, 0)
    if budget.period:
        begin, end = period_of(budget.period, budget.time_zone or catalog.time_zone or "UTC", time)
        in_period = known.used.get((key, begin), (0, 0))
    limits = _limits(in_all, budget.units if budget.HasField("units") else None, _money(budget, "amount"))
    period_units = budget.period_units if budget.HasField("period_units") else None
    periodic = _limits(in_period, period_units, _money(budget, "period_amount")) if budget.period else []
    for amounts, passes in ((limits, None), (periodic, end)):
        for used, limit, unit in amounts:
            if used >= limit:
                words = f"budget of {key.replace(':', ' ')}: {_sum(used, unit)} of {_sum(limit, unit)} used"
                yield Failed(REASON_CODE_BUDGET_EXHAUSTED, words, passes)
    if budget.pacing not in PACED:
        return
    for used, limit, unit in periodic if budget.period else limits:
        passes = plan_allows(budget.pacing, used, limit, begin, end) if used < limit else time
        if passes > time:
            words = f"budget of {key.replace(':', ' ')}: {_sum(used, unit)} of {_sum(limit, unit)} used, ahead of plan"
            yield Failed(REASON_CODE_PACED, words, passes)


def _money(budget: Budget, name: Literal["amount", "period_amount"]) -> Money | None:
    """Return a limit in money; None: the budget has none."""
    return getattr(budget, name) if budget.HasField(name) else None


def _limits(used: tuple[int, int], units: int | None, amount: Money | None) -> list[tuple[int, int, str]]:
    """Return (used, limit, currency) of each limit; units have the currency ""."""
    found = []
    if units is not None:
        found.append((used[0], units, ""))
    if amount is not None:
        found.append((used[1], micros_of(amount), amount.currency_code))
    return found


def _shown_in(offer: Offer, campaign: Campaign) -> Span:
    """Return the first and the last second of the windows in which an offer is shown."""
    limits = [_span(campaign.window)]
    if offer.redemption.required_when_shown:
        limits.append(_span(offer.redemption.window))
    spans = [_span(window) for window in offer.availability.windows] or [(0, NEVER)]
    for begin, end in limits:
        spans = [(max(one, begin), min(other, end)) for one, other in spans if max(one, begin) < min(other, end)]
    return min((one for one, _ in spans), default=0), max((other for _, other in spans), default=0)


def _span(window: Interval) -> Span:
    return window.start_time.seconds, window.end_time.seconds if window.HasField("end_time") else NEVER


def share_of(draw: int, key: int) -> float:
    """Return the number from 0 to 1 (exclusive) that belongs to a person and a key (splitmix64)."""
    return (finished_in_python((draw ^ (key * SPLITMIX_STEP)) % 2**64) >> 11) / 2**53


def variants_of(catalog: Catalog, query: Query, known: KnownPerson) -> dict[str, str]:
    """Return the variants of a person, by experiment.

    Among the running experiments of a layer, a person stays in the first they were exposed to; else one is drawn. A
    person in none of an experiment's segments has no variant of it.
    """
    if known.draw == 0:
        return {}
    draw = known.variant_draw or known.draw
    on = [one for one in catalog.experiments if _span(one.window)[0] <= query.time < _span(one.window)[1]]
    by_name = {one.experiment_id: one for one in on}
    kept: dict[str, tuple[str, str]] = {}
    for name, variant in dict(known.assigned).items():
        if name in by_name and variant in {one.variant_id for one in by_name[name].variants}:
            kept.setdefault(_layer(by_name[name]), (name, variant))
    found, taken = {}, dict[str, float]()
    for one in catalog.experiments:
        layer, name = _layer(one), one.experiment_id
        low = taken.get(layer, 0.0)
        taken[layer] = low + (one.share if one.HasField("share") else 1.0)
        if name not in by_name or (one.placement_ids and query.surface.placement not in one.placement_ids):
            continue
        if one.segment_ids and known.segments.isdisjoint(one.segment_ids):
            continue
        if layer in kept:
            if kept[layer][0] == name:
                found[name] = kept[layer][1]
        elif low <= share_of(draw, key_of("layer", catalog.catalog_id, layer)) < taken[layer]:
            found[name] = _drawn(one, share_of(draw, key_of("experiment", catalog.catalog_id, name)))
    return found


def _layer(experiment: Experiment) -> str:
    """Return the layer of an experiment; one without a layer is in one of its own."""
    return experiment.layer or f"experiment\0{experiment.experiment_id}"


def _drawn(experiment: Experiment, share: float) -> str:
    """Return the variant at a share of the weights."""
    weights = [one.weight if one.HasField("weight") else 1.0 for one in experiment.variants]
    bounds = [bound / sum(weights) for bound in accumulate(weights)]
    index = next((number for number, bound in enumerate(bounds) if share < bound), len(bounds) - 1)
    return experiment.variants[index].variant_id


def strategy_of(catalog: Catalog, variants: Mapping[str, str]) -> str:
    """Return the first ranking strategy that the person's variants name; "": they name none."""
    named = (
        one.ranking_strategy_id
        for experiment in catalog.experiments
        for one in experiment.variants
        if variants.get(experiment.experiment_id) == one.variant_id
    )
    return next(filter(None, named), "")


def creative_of(
    catalog: Catalog, offer: Offer, query: Query, channel: str, known: KnownPerson
) -> CreativeVariant | None:
    """Return the content variant of an offer that is shown; None: its own content."""
    contents = contents_of(offer, query, channel)
    return next((one for one in contents if not any(outside(one.audience, "", catalog, query, known))), None)


def contents_of(offer: Offer, query: Query, channel: str) -> list[CreativeVariant]:
    """Return the content variants of an offer for a language and channel, in the order they are tried."""

    def fits(one: CreativeVariant) -> bool:
        tags = [tag.lower() for tag in one.language_codes]
        return (not tags or any(f"{query.surface.language}-".startswith(f"{tag}-") for tag in tags)) and (
            not one.channels or channel in one.channels
        )

    def rank(one: CreativeVariant) -> tuple[bool, bool, bool]:
        return one.audience == Audience(), not one.language_codes, not one.channels

    return list(filter(fits, sorted(offer.creative_variants, key=rank)))


def creative_id_of(offer: Offer, one: CreativeVariant | None) -> str:
    """Return the id of content in an answer; "": the offer's own."""
    if one is None:
        return ""
    return one.creative_id or str(list(offer.creative_variants).index(one) + 1)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _lasting(seconds: int) -> str:
    """Word a length of time in its largest whole unit."""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def _sum(amount: int, currency: str) -> str:
    return f"{amount / MICROS:g} {currency}" if currency else f"{amount:,}"
