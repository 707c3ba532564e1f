"""Words for the values of an answer: benefits, distances, reasons, factors, instants."""

from datetime import datetime, tzinfo

from google.type.money_pb2 import Money

from offers.v1.offer_pb2 import Benefit, Bundle
from offers.v1.offer_service_pb2 import Factor, FactorName, Proposition, ReasonCode

_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_REASONS = {
    "NEARBY": "nearby",
    "IN_ZONE": "in zone",
    "EVERYWHERE": "everywhere",
    "OPEN_NOW": "open now",
    "ENDS_SOON": "ends soon",
    "FALLBACK": "fallback",
    "LOCATION_MISSING": "no location",
    "PREFERRED_DAYPART": "its daypart",
    "UNREACHABLE": "ends too soon",
    "AUDIENCE": "for you",
    "BEHAVIOUR": "your visit",
    "HABIT": "your habit",
    "NO_SUCH_OFFER": "no such offer",
    "OTHER_PLACEMENT": "for another placement",
    "OTHER_LANGUAGE": "in another language",
    "OTHER_CURRENCY": "for another currency",
    "OTHER_CHANNEL": "for another channel",
    "NOT_BEGUN": "not begun",
    "OVER": "over",
    "CLOSED": "closed",
    "NEEDS_LOCATION": "needs a location",
    "TOO_FAR": "too far",
    "IN_EXCLUDED_ZONE": "in an excluded zone",
    "TOO_UNCERTAIN": "location too uncertain",
    "ENDS_TOO_SOON": "ends before one can be there",
    "NOT_IN_SEGMENTS": "not in its segments",
    "IN_EXCLUDED_SEGMENT": "in an excluded segment",
    "OTHER_VARIANT": "for another variant",
    "HOLDOUT": "held out",
    "CAPPED": "frequency cap reached",
    "PRESSURE": "contact policy reached",
    "QUIET_HOURS": "quiet hours",
    "COOLING_DOWN": "cooling down",
    "BUDGET_EXHAUSTED": "budget used up",
    "PACED": "budget ahead of plan",
    "FALLBACK_NOT_NEEDED": "fallback not needed",
    "EXCLUSION_GROUP": "a better one of its group",
    "LAYOUT": "placement full",
    "OUTRANKED": "outranked",
    "DEGRADED": "limits cannot be checked",
    "TIED": "tied",
}
"""Words of each ReasonCode, by its name without the prefix."""
_NANO_DIGITS = 9


def benefit_words(benefit: Benefit) -> str:
    """Word a benefit with its terms, such as "€5 off, up to €10, from €20"."""
    words = [_gain(benefit)]
    if benefit.HasField("maximum_discount"):
        words.append(f"up to {money_words(benefit.maximum_discount)}")
    if benefit.HasField("minimum_order"):
        words.append(f"from {money_words(benefit.minimum_order)}")
    return ", ".join(words)


def _gain(benefit: Benefit) -> str:
    """Word the gain of a benefit, without its terms."""
    match benefit.WhichOneof("kind"):
        case "percent_off":
            return f"−{benefit.percent_off:g} %"  # noqa: RUF001 - a minus sign
        case "amount_off":
            return f"{money_words(benefit.amount_off)} off"
        case "fixed_price":
            return money_words(benefit.fixed_price)
        case "free_delivery":
            free = benefit.free_delivery
            within = f" within {distance_words(free.maximum_distance_m)}" if free.HasField("maximum_distance_m") else ""
            return f"free delivery{within}"
        case "bundle":
            return _bundle_words(benefit.bundle)
        case _:
            return benefit.custom


def _bundle_words(bundle: Bundle) -> str:
    if bundle.quantity == bundle.paid_quantity:  # things sold together at one price
        return bundle.items or "bundle"
    return f"{bundle.quantity} for {bundle.paid_quantity or 'free'}"


def money_words(money: Money) -> str:
    """Word a sum of money of 0 or more, such as "€13.90" or "CHF 5"."""
    fraction = f"{money.nanos:0{_NANO_DIGITS}d}".rstrip("0")
    number = f"{money.units:,}" + (f".{fraction:0<2}" if fraction else "")
    symbol = _SYMBOLS.get(money.currency_code)
    return f"{symbol}{number}" if symbol else f"{money.currency_code} {number}"


def distance_words(metres: float) -> str:
    """Word a distance: in whole metres below a kilometre, else in kilometres."""
    if round(metres) < 1_000:
        return f"{metres:.0f} m"
    return f"{metres / 1_000:.1f} km" if metres < 100_000 else f"{metres / 1_000:,.0f} km"


def reason_words(proposition: Proposition) -> str:
    """Word the reasons for which an offer is in the answer."""
    return " · ".join(map(code_words, proposition.reasons))


def code_words(code: ReasonCode.ValueType) -> str:
    """Word a reason code, such as "not begun"; a code of a newer server is told by its number."""
    name = ReasonCode.Name(code) if code in ReasonCode.values() else ""
    return _REASONS.get(name.removeprefix("REASON_CODE_"), f"reason {code}")


def factor_name(factor: Factor) -> str:
    """Return the name of a factor, such as "nearness"."""
    return FactorName.Name(factor.name).removeprefix("FACTOR_NAME_").lower()


def factor_words(factor: Factor) -> str:
    """Word a factor of a score, such as "nearness 0.8123 ^ 1"."""
    return f"{factor_name(factor)} {factor.value:.4f} ^ {factor.weight:g}"


def until_words(proposition: Proposition, asked: datetime, zone: tzinfo | None) -> str:
    """Word the end of an offer by the clock of `zone`, with its day unless that is the day asked for.

    Without a zone, the clock is that of this machine.
    """
    if not proposition.HasField("valid_until"):
        return "no end"
    end = local(proposition.valid_until.seconds, zone)
    if end.date() == asked.date():
        return f"{end:%H:%M}"
    return f"{end:%a %-d %b %H:%M}" if end.year == asked.year else f"{end:%-d %b %Y %H:%M}"


def local(second: int, zone: tzinfo | None) -> datetime:
    """Return an instant, in seconds since 1970 UTC, by the clock of `zone`; None: of this machine."""
    return datetime.fromtimestamp(second, zone).astimezone(zone)
