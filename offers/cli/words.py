"""Says what is in an answer in words: benefits, distances, reasons, instants."""

from datetime import datetime, tzinfo

from google.type.money_pb2 import Money

from offers.v1.offer_pb2 import Benefit, Bundle
from offers.v1.offer_service_pb2 import (
    REASON_CODE_AUDIENCE,
    REASON_CODE_BEHAVIOUR,
    REASON_CODE_ENDS_SOON,
    REASON_CODE_EVERYWHERE,
    REASON_CODE_FALLBACK,
    REASON_CODE_HABIT,
    REASON_CODE_IN_ZONE,
    REASON_CODE_LOCATION_MISSING,
    REASON_CODE_NEARBY,
    REASON_CODE_OPEN_NOW,
    REASON_CODE_PREFERRED_DAYPART,
    REASON_CODE_UNREACHABLE,
    Proposition,
)

_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_REASONS = {
    REASON_CODE_NEARBY: "nearby",
    REASON_CODE_IN_ZONE: "in zone",
    REASON_CODE_EVERYWHERE: "everywhere",
    REASON_CODE_OPEN_NOW: "open now",
    REASON_CODE_ENDS_SOON: "ends soon",
    REASON_CODE_FALLBACK: "fallback",
    REASON_CODE_LOCATION_MISSING: "no location",
    REASON_CODE_PREFERRED_DAYPART: "its daypart",
    REASON_CODE_UNREACHABLE: "ends too soon",
    REASON_CODE_AUDIENCE: "for you",
    REASON_CODE_BEHAVIOUR: "your visit",
    REASON_CODE_HABIT: "your habit",
}
_NANO_DIGITS = 9


def benefit_words(benefit: Benefit) -> str:
    """Say what is gained and on what terms, such as "€5 off, up to €10, from €20"."""
    words = [_gain(benefit)]
    if benefit.HasField("maximum_discount"):
        words.append(f"up to {money_words(benefit.maximum_discount)}")
    if benefit.HasField("minimum_order"):
        words.append(f"from {money_words(benefit.minimum_order)}")
    return ", ".join(words)


def _gain(benefit: Benefit) -> str:
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
    if bundle.quantity == bundle.paid_quantity:  # several things sold as one
        return bundle.items or "bundle"
    return f"{bundle.quantity} for {bundle.paid_quantity or 'free'}"


def money_words(money: Money) -> str:
    """Say a sum of 0 or more, such as "€13.90" or "CHF 5"."""
    fraction = f"{money.nanos:0{_NANO_DIGITS}d}".rstrip("0")
    number = f"{money.units:,}" + (f".{fraction:0<2}" if fraction else "")
    symbol = _SYMBOLS.get(money.currency_code)
    return f"{symbol}{number}" if symbol else f"{money.currency_code} {number}"


def distance_words(metres: float) -> str:
    """Say a distance: whole metres up to a kilometre, then kilometres."""
    if round(metres) < 1_000:
        return f"{metres:.0f} m"
    return f"{metres / 1_000:.1f} km" if metres < 100_000 else f"{metres / 1_000:,.0f} km"


def reason_words(proposition: Proposition) -> str:
    """Say why an offer is in the answer."""
    return " · ".join(_REASONS.get(code, f"reason {code}") for code in proposition.reasons)


def until_words(proposition: Proposition, asked: datetime, zone: tzinfo | None) -> str:
    """Say when an offer ends, by the clock of `zone` (None: this machine's), in full where not the day asked for."""
    if not proposition.HasField("valid_until"):
        return "no end"
    end = local(proposition.valid_until.seconds, zone)
    if end.date() == asked.date():
        return f"{end:%H:%M}"
    return f"{end:%a %-d %b %H:%M}" if end.year == asked.year else f"{end:%-d %b %Y %H:%M}"


def local(second: int, zone: tzinfo | None) -> datetime:
    """Give an instant, in seconds since 1970 UTC, by the clock of `zone`, or of this machine."""
    return datetime.fromtimestamp(second, zone).astimezone(zone)
