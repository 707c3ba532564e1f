"""Words for the values of an answer: benefits, distances, reasons, factors, instants."""

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
    Factor,
    FactorName,
    Proposition,
    ReasonCode,
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
    return " · ".join(_REASONS.get(code, f"reason {code}") for code in proposition.reasons)


def code_words(code: ReasonCode.ValueType) -> str:
    """Word the reason code of a failed check, such as "not begun"."""
    return ReasonCode.Name(code).removeprefix("REASON_CODE_").lower().replace("_", " ")


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
