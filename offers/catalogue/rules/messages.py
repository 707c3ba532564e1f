"""Rules for the messages of a catalogue, each taken by itself.

Every function adds to `faults` the violations of the rules stated in protos/offers/v1. Because these checks run for a
million offers, a path is built only for a fault, and a list is iterated over only if it is not empty: ending an
iteration costs more than the test.
"""

from functools import lru_cache
from math import inf

from google.type.money_pb2 import Money

from offers.catalogue.document.nodes import Path
from offers.catalogue.hours.grammar import refusal
from offers.catalogue.rules.audience import check_audience
from offers.catalogue.rules.behaviour import check_behaviour
from offers.catalogue.rules.creative import check_channels, check_creative, check_languages, check_variants
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.limits import MAX_CAPS, check_budget, check_caps, check_holdout, check_redemption_caps
from offers.catalogue.rules.models import check_exploration, check_interactions, check_propensity
from offers.catalogue.rules.places import check_target
from offers.catalogue.rules.values import (
    bad_currency,
    bad_id,
    check_country,
    check_duration,
    check_enum,
    check_id,
    check_length,
    check_money,
    check_share,
    check_text,
    check_time_zone,
    check_window,
    is_catalog_id,
    is_currency,
    is_id,
    is_sound_window,
)
from offers.v1.catalog_pb2 import Catalog, Daypart, Placement
from offers.v1.offer_pb2 import (
    REACHABLE_BEFORE_END_IGNORE,
    TIME_ZONE_BASIS_FIXED,
    Availability,
    Benefit,
    Bundle,
    FreeDelivery,
    Offer,
    ReachableBeforeEnd,
    Redemption,
    TimeZoneBasis,
)
from offers.v1.ranking_pb2 import Decay, RankingStrategy

MAX_SENSITIVE = 100


def check_head(catalog: Catalog, faults: Faults) -> None:
    """Check the single values of a catalogue that are set."""
    if catalog.catalog_id and not is_catalog_id(catalog.catalog_id):
        faults.append(bad_id(("catalog_id",), catalog.catalog_id, 64))
    check_length(catalog.title, 200, ("title",), faults)
    check_time_zone(catalog.time_zone, ("time_zone",), faults)
    check_country(catalog.country_code, ("country_code",), faults)
    check_holdout(catalog.holdout, ("holdout",), faults)
    if len(catalog.sensitive_attributes) > MAX_SENSITIVE:
        reason = f"has {len(catalog.sensitive_attributes):,} names"
        faults.append(Fault(("sensitive_attributes",), reason, f"write at most {MAX_SENSITIVE}"))
    for index, name in enumerate(catalog.sensitive_attributes):
        check_text(name, 128, ("sensitive_attributes", index), faults)
    check_interactions(catalog, faults)
    if catalog.HasField("order_value_scale"):
        check_money(catalog.order_value_scale, ("order_value_scale",), faults, over_zero=True)


def check_placement(placement: Placement, faults: Faults) -> None:
    """Check a placement."""
    check_id(placement.placement_id, ("placement_id",), faults)
    check_length(placement.title, 200, ("title",), faults)
    check_length(placement.channel, 64, ("channel",), faults)
    for name in ("max_offers", "max_per_venue", "max_per_brand", "max_per_category"):
        number = getattr(placement, name)
        if placement.HasField(name) and not 1 <= number <= 100:
            faults.append(Fault((name,), f"{number} is not from 1 to 100", "write a whole number from 1 to 100"))
    check_caps(placement.frequency_caps, ("frequency_caps",), faults)
    check_exploration(placement, faults)


def check_daypart(daypart: Daypart, faults: Faults) -> None:
    """Check a daypart, except for the country of its holidays and the place of its sun times, which offers decide."""
    check_id(daypart.daypart_id, ("daypart_id",), faults)
    check_length(daypart.title, 200, ("title",), faults)
    if not daypart.opening_hours:
        fix = "write when it is, such as '11:30-14:30'"
        faults.append(Fault(("opening_hours",), "missing", fix))
    elif refused := refusal(daypart.opening_hours, "FR"):
        faults.append(Fault(("opening_hours",), *refused))


def check_strategy(strategy: RankingStrategy, faults: Faults) -> None:
    """Check a ranking strategy."""
    check_id(strategy.ranking_strategy_id, ("ranking_strategy_id",), faults)
    for described, weight in strategy.weights.ListFields():
        if not 0 <= weight <= 100:
            path = ("weights", described.name)
            faults.append(Fault(path, f"{weight:.12g} is not from 0 to 100", "write a weight from 0 to 100"))
    if strategy.HasField("nearness"):
        _check_decay(strategy.nearness, ("nearness",), faults)
    if strategy.HasField("timeliness"):
        _check_decay(strategy.timeliness, ("timeliness",), faults)
    for name in ("nearness_without_distance", "outside_daypart", "missing_location", "unreachable"):
        if strategy.HasField(name):
            check_share(getattr(strategy, name), (name,), faults)
    check_behaviour(strategy, faults)
    check_propensity(strategy, faults)


def _check_decay(decay: Decay, path: Path, faults: Faults) -> None:
    check_enum(decay.shape, Decay.Shape, (*path, "shape"), faults)
    for name, number in (("offset", decay.offset), ("origin", decay.origin)):
        if not 0 <= number < inf:
            fix = "write metres or seconds, 0 or more"
            faults.append(Fault((*path, name), f"{number:.12g} is not 0 or more", fix))
    if not 0 < decay.scale < inf:
        reason = f"{decay.scale:.12g} is not over 0" if decay.scale else "missing"
        fix = "write over how many metres or seconds the factor falls to `decay`, over 0"
        faults.append(Fault((*path, "scale"), reason, fix))
    if decay.HasField("decay") and not 0 < decay.decay < 1:
        reason = f"{decay.decay:.12g} is not between 0 and 1"
        faults.append(Fault((*path, "decay"), reason, "write a number over 0 and under 1, such as 0.5"))
    if decay.HasField("minimum"):
        check_share(decay.minimum, (*path, "minimum"), faults)


def check_offer(offer: Offer, faults: Faults) -> None:  # noqa: C901, PLR0912 - calls would cost more than the checks
    """Check an offer, except for its ids and opening hours, which depend on the catalogue; see also check_people."""
    if not is_id(offer.offer_id):
        faults.append(bad_id(("offer_id",), offer.offer_id, 128))
    title = offer.title
    if not 0 < len(title) <= 200 or not title.isprintable() or title[0] == " ":
        check_text(offer.title, 200, ("title",), faults)
    if offer.HasField("benefit"):
        if not _is_sound_benefit(offer.benefit.SerializeToString()):
            _check_benefit(offer.benefit, faults)
    else:
        fix = "write what the person gains, such as {percent_off: 20}"
        faults.append(Fault(("benefit",), "missing", fix))
    if offer.HasField("creative"):
        check_creative(offer.creative, ("creative",), faults)
    check_length(offer.category, 128, ("category",), faults)
    check_length(offer.brand, 128, ("brand",), faults)
    if offer.HasField("target"):
        check_target(offer.target, faults)
    else:
        faults.append(Fault(("target",), "missing", "write where it may be shown, such as {everywhere: true}"))
    if offer.HasField("availability"):
        availability = offer.availability
        _check_availability(availability, faults)
        if availability.only_when_open or availability.reachable_before_end > REACHABLE_BEFORE_END_IGNORE:
            _check_venues_there(offer, faults)
    if offer.HasField("redemption"):
        _check_redemption(offer.redemption, faults)
    if offer.language_codes:
        check_languages(offer.language_codes, ("language_codes",), faults)
    if offer.currency_codes:
        for index, code in enumerate(offer.currency_codes):
            if not is_currency(code):
                faults.append(bad_currency(("currency_codes", index), code))
    if offer.channels:
        check_channels(offer.channels, ("channels",), faults)
    if offer.exclusion_group:
        check_length(offer.exclusion_group, 128, ("exclusion_group",), faults)
    if offer.HasField("value") and not 0 < offer.value <= 1:
        check_share(offer.value, ("value",), faults)
    if offer.HasField("lever") and not 0 < offer.lever <= 1:
        check_share(offer.lever, ("lever",), faults)


def concerns_people(offer: Offer) -> bool:
    """Return whether an offer has an audience or limits: most offers have none."""
    return bool(
        offer.campaign_id
        or offer.HasField("audience")
        or offer.HasField("budget")
        or offer.frequency_caps
        or offer.redemption_caps
        or offer.creative_variants
    )


def check_people(offer: Offer, faults: Faults) -> None:
    """Check the audience and the limits of an offer, except for the ids they name."""
    check_audience(offer.audience, ("audience",), faults)
    check_variants(offer.creative_variants, ("creative_variants",), faults)
    check_caps(offer.frequency_caps, ("frequency_caps",), faults, most=MAX_CAPS)
    check_redemption_caps(offer.redemption_caps, faults)
    if offer.HasField("budget"):
        check_budget(offer.budget, ("budget",), faults)


@lru_cache(maxsize=65_536)
def _is_sound_benefit(benefit: bytes) -> bool:
    """Return whether an encoded benefit has no fault; many offers have equal ones."""
    faults: list[Fault] = []
    _check_benefit(Benefit.FromString(benefit), faults)
    return not faults


def _check_benefit(benefit: Benefit, faults: Faults) -> None:  # noqa: C901 - a check per kind
    kind = benefit.WhichOneof("kind")
    if kind == "percent_off":
        if not 0 < benefit.percent_off <= 100:
            reason = f"{benefit.percent_off:.12g} is not over 0 and at most 100"
            faults.append(Fault(("benefit", kind), reason, "write percent, such as 20"))
    elif kind == "amount_off":
        check_money(benefit.amount_off, ("benefit", kind), faults, over_zero=True)
    elif kind == "fixed_price":
        check_money(benefit.fixed_price, ("benefit", kind), faults, over_zero=False)
    elif kind == "free_delivery":
        _check_delivery(benefit.free_delivery, faults)
    elif kind == "bundle":
        _check_bundle(benefit.bundle, faults)
    elif kind == "custom":
        check_text(benefit.custom, 200, ("benefit", kind), faults)
    else:
        names = ", ".join(described.name for described in Benefit.DESCRIPTOR.oneofs_by_name["kind"].fields)
        fix = f"write one of {names}; for free delivery without a limit, 'free_delivery: {{}}'"
        faults.append(Fault(("benefit",), "does not say what is gained", fix))
    if benefit.HasField("minimum_order"):
        check_money(benefit.minimum_order, ("benefit", "minimum_order"), faults, over_zero=False)
        _check_currencies(benefit, faults)
    if benefit.HasField("maximum_discount"):
        check_money(benefit.maximum_discount, ("benefit", "maximum_discount"), faults, over_zero=True)
        if not benefit.HasField("minimum_order"):
            _check_currencies(benefit, faults)


def _check_currencies(benefit: Benefit, faults: Faults) -> None:
    sums = [value for _, value in benefit.ListFields() if isinstance(value, Money)]
    codes = sorted({money.currency_code for money in sums})
    if len(codes) > 1 and all(map(is_currency, codes)):
        fix = "write all its sums in one currency"
        faults.append(Fault(("benefit",), f"mixes the currencies {' and '.join(codes)}", fix))


def _check_delivery(delivery: FreeDelivery, faults: Faults) -> None:
    if delivery.HasField("maximum_distance_m") and not 0 < delivery.maximum_distance_m < inf:
        path = ("benefit", "free_delivery", "maximum_distance_m")
        faults.append(Fault(path, f"{delivery.maximum_distance_m:.12g} is not over 0", "write metres, such as 3000"))


def _check_bundle(bundle: Bundle, faults: Faults) -> None:
    if bundle.quantity < 1:
        reason = f"{bundle.quantity} is not 1 or more" if bundle.quantity else "missing"
        faults.append(Fault(("benefit", "bundle", "quantity"), reason, "write the pieces received, 1 or more"))
    elif not 0 <= bundle.paid_quantity <= bundle.quantity:
        reason = f"{bundle.paid_quantity} is not from 0 to the quantity, {bundle.quantity}"
        fix = f"write the pieces paid for, from 0 to {bundle.quantity}"
        faults.append(Fault(("benefit", "bundle", "paid_quantity"), reason, fix))
    check_length(bundle.items, 200, ("benefit", "bundle", "items"), faults)


def _check_availability(availability: Availability, faults: Faults) -> None:
    windows = availability.windows
    for index in range(len(windows)):
        if not is_sound_window(windows[index]):
            check_window(windows[index], ("availability", "windows", index), faults)
    if availability.time_zone:
        check_time_zone(availability.time_zone, ("availability", "time_zone"), faults)
    if availability.country_code:
        check_country(availability.country_code, ("availability", "country_code"), faults)
    if availability.time_zone_basis:
        _check_basis(availability, faults)
    if availability.HasField("closing_margin"):
        check_duration(availability.closing_margin, ("availability", "closing_margin"), faults)
        if not availability.only_when_open:
            fix = "add 'only_when_open: true', or leave it out"
            faults.append(Fault(("availability", "closing_margin"), "has no closing to be a margin of", fix))
    if reachable := availability.reachable_before_end:
        check_enum(reachable, ReachableBeforeEnd, ("availability", "reachable_before_end"), faults)


def _check_venues_there(offer: Offer, faults: Faults) -> None:
    """Check that an offer has venues if it needs their hours or their travel."""
    if offer.target.venue_ids or offer.target.venue_selectors:
        return
    fix = "add venue_ids to the target, or leave it out"
    if offer.availability.only_when_open:
        faults.append(Fault(("availability", "only_when_open"), "has no venue to be open", fix))
    if offer.availability.reachable_before_end > REACHABLE_BEFORE_END_IGNORE:
        faults.append(Fault(("availability", "reachable_before_end"), "has no venue to be reached", fix))


def _check_basis(availability: Availability, faults: Faults) -> None:
    basis = availability.time_zone_basis
    if basis not in TimeZoneBasis.values():
        check_enum(basis, TimeZoneBasis, ("availability", "time_zone_basis"), faults)
    elif basis == TIME_ZONE_BASIS_FIXED:
        if not availability.time_zone:
            fix = "write the time zone that TIME_ZONE_BASIS_FIXED means, such as Europe/Paris, or another basis"
            faults.append(Fault(("availability", "time_zone"), "missing", fix))
    elif availability.time_zone:
        reason = f"stands beside {TimeZoneBasis.Name(basis)}, which takes the clock from elsewhere"
        fix = "leave it out, or write 'time_zone_basis: TIME_ZONE_BASIS_FIXED'"
        faults.append(Fault(("availability", "time_zone"), reason, fix))


def _check_redemption(redemption: Redemption, faults: Faults) -> None:
    if redemption.HasField("window"):
        check_window(redemption.window, ("redemption", "window"), faults)
