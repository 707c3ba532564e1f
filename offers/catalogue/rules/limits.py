"""Rules for campaigns, frequency caps, contact policies and budgets, each taken by itself."""

from collections.abc import Sequence

from google.type.interval_pb2 import Interval

from offers.catalogue.document.nodes import Path
from offers.catalogue.rules.audience import check_audience
from offers.catalogue.rules.faults import Fault, Faults
from offers.catalogue.rules.values import (
    check_duration,
    check_enum,
    check_id,
    check_length,
    check_money,
    check_text,
    check_time_zone,
    check_window,
    one_of,
)
from offers.v1.event_pb2 import EventKind
from offers.v1.limits_pb2 import (
    CALENDAR_PERIOD_UNSPECIFIED,
    Budget,
    CalendarPeriod,
    Campaign,
    CategoryLimit,
    ContactPolicy,
    FrequencyCap,
    Pacing,
)
from offers.v1.offer_pb2 import Offer

MAX_COUNT = 1_000
MAX_CAPS = 8
"""Caps of a kind that an offer may have."""
MAX_DAYS = 400


def check_campaign(campaign: Campaign, faults: Faults) -> None:
    """Check a campaign, except for the ids it names."""
    check_id(campaign.campaign_id, ("campaign_id",), faults)
    check_length(campaign.title, 200, ("title",), faults)
    if campaign.HasField("window"):
        check_window(campaign.window, ("window",), faults)
    check_audience(campaign.audience, ("audience",), faults)
    check_caps(campaign.frequency_caps, ("frequency_caps",), faults)
    check_redemption_caps(campaign.redemption_caps, faults)
    check_holdout(campaign.holdout, ("holdout",), faults)
    if campaign.HasField("budget"):
        check_budget(campaign.budget, ("budget",), faults)
        if needs_window(campaign.budget) and not has_both_ends(campaign.window):
            faults.append(lacking_window(("budget", "pacing"), "the campaign"))


def check_category_limit(limit: CategoryLimit, faults: Faults) -> None:
    """Check a category limit."""
    check_text(limit.category, 128, ("category",), faults)
    if not limit.frequency_caps:
        faults.append(Fault(("frequency_caps",), "missing", "write at least one cap, or leave the limit out"))
    check_caps(limit.frequency_caps, ("frequency_caps",), faults)


def check_policy(policy: ContactPolicy, faults: Faults) -> None:
    """Check a contact policy, except for its campaigns and its quiet hours."""
    check_id(policy.contact_policy_id, ("contact_policy_id",), faults)
    check_length(policy.title, 200, ("title",), faults)
    for index, category in enumerate(policy.categories):
        check_text(category, 128, ("categories", index), faults)
    for index, channel in enumerate(policy.channels):
        check_text(channel, 64, ("channels", index), faults)
    check_caps(policy.frequency_caps, ("frequency_caps",), faults)
    check_duration(policy.offer_cool_down, ("offer_cool_down",), faults, days=MAX_DAYS)
    check_duration(policy.cool_down, ("cool_down",), faults, days=MAX_DAYS)


def check_holdout(share: float, path: Path, faults: Faults) -> None:
    """Check a holdout, the share of persons who are held out."""
    if not 0 <= share <= 0.5:
        faults.append(Fault(path, f"{share:.12g} is not from 0 to 0.5", "write a share of persons, such as 0.05"))


def check_caps(caps: Sequence[FrequencyCap], path: Path, faults: Faults, *, most: int | None = None) -> None:
    """Check frequency caps."""
    if most is not None and len(caps) > most:
        faults.append(Fault(path, f"has {len(caps):,} caps", f"write at most {most}"))
    for index, cap in enumerate(caps):
        _check_cap(cap, (*path, index), faults)


def check_redemption_caps(caps: Sequence[FrequencyCap], faults: Faults) -> None:
    """Check the redemption caps of an offer or a campaign."""
    check_caps(caps, ("redemption_caps",), faults, most=MAX_CAPS)
    for index, cap in enumerate(caps):
        if cap.kind not in {EventKind.EVENT_KIND_UNSPECIFIED, EventKind.EVENT_KIND_REDEMPTION}:
            path = ("redemption_caps", index, "kind")
            fix = "leave it out, or write the cap among frequency_caps"
            faults.append(Fault(path, "is not counted: redemption caps count redemptions", fix))


def _check_cap(cap: FrequencyCap, path: Path, faults: Faults) -> None:
    check_enum(cap.kind, EventKind, (*path, "kind"), faults)
    if not 1 <= cap.max_count <= MAX_COUNT:
        reason = f"{cap.max_count:,} is not from 1 to 1,000" if cap.max_count else "missing"
        faults.append(Fault((*path, "max_count"), reason, "write a whole number from 1 to 1000"))
    window = cap.WhichOneof("window")
    if window == "rolling":
        check_duration(cap.rolling, (*path, "rolling"), faults, least=1, days=MAX_DAYS)
    elif window == "calendar":
        if cap.calendar == CALENDAR_PERIOD_UNSPECIFIED:
            faults.append(Fault((*path, "calendar"), "does not say which period", one_of(CalendarPeriod)))
        check_enum(cap.calendar, CalendarPeriod, (*path, "calendar"), faults)
    check_time_zone(cap.time_zone, (*path, "time_zone"), faults)
    if cap.time_zone and window != "calendar":
        fix = "leave it out, or write the 'calendar' period it is the clock of"
        faults.append(Fault((*path, "time_zone"), "has no calendar period to be the clock of", fix))


def check_budget(budget: Budget, path: Path, faults: Faults) -> None:
    """Check a budget, except for the window it is spread over."""
    limits = [name for name in ("units", "amount", "period_units", "period_amount") if budget.HasField(name)]
    if not limits:
        fix = "write units, amount, period_units or period_amount, or leave it out"
        faults.append(Fault(path, "limits nothing", fix))
    for name in ("units", "period_units"):
        number = getattr(budget, name)
        if name in limits and number < 1:
            faults.append(Fault((*path, name), f"{number} is not 1 or more", "write a whole number, 1 or more"))
    for name in ("amount", "period_amount"):
        if name in limits:
            check_money(getattr(budget, name), (*path, name), faults, over_zero=True)
    codes = [getattr(budget, name).currency_code for name in limits if name.endswith("amount")]
    if len(set(codes)) > 1:
        reason = f"is in {codes[1]}, and amount in {codes[0]}"
        faults.append(Fault((*path, "period_amount", "currency_code"), reason, "write both in one currency"))
    check_enum(budget.period, CalendarPeriod, (*path, "period"), faults)
    check_enum(budget.pacing, Pacing, (*path, "pacing"), faults)
    periodic = any(name.startswith("period") for name in limits)
    if periodic and not budget.period:
        faults.append(Fault((*path, "period"), "missing", one_of(CalendarPeriod)))
    elif budget.period and not periodic:
        fix = "write period_units or period_amount, or leave it out"
        faults.append(Fault((*path, "period"), "has no limit to be the period of", fix))
    check_time_zone(budget.time_zone, (*path, "time_zone"), faults)


def needs_window(budget: Budget) -> bool:
    """Return whether a budget is spread over the window of its campaign or offer."""
    return budget.pacing > Pacing.PACING_AS_FAST_AS_POSSIBLE and not budget.period


def has_both_ends(window: Interval) -> bool:
    """Return whether a window has both ends."""
    return bool(window.HasField("start_time") and window.HasField("end_time"))


def is_unpaced(offer: Offer) -> bool:
    """Return whether an offer's budget needs a window, and its own windows do not have both ends."""
    if not (offer.HasField("budget") and needs_window(offer.budget)):
        return False
    windows = offer.availability.windows
    return not windows or not all(map(has_both_ends, windows))


def lacking_window(path: Path, what: str) -> Fault:
    """Return the fault of a paced budget without a window to spread it over."""
    fix = "write a window with start_time and end_time, or the period, or leave the pacing out"
    return Fault(path, f"{what} has no window with both ends to spread it over", fix)
