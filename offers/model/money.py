"""Conversions of google.type.Money, whose amounts are units and nanos (billionths of a unit)."""

from google.type.money_pb2 import Money

MICROS = 1_000_000
"""Micros in a unit: budgets and baskets are counted in millionths."""
NANOS = 1_000_000_000
"""Nanos in a unit."""


def micros_of(money: Money, *, round_up: bool = True) -> int:
    """Return an amount in micros.

    Rounding up means that no budget is overspent and that amounts over 0 stay over 0; else it is rounded down.
    """
    return int(money.units * MICROS + (-(-money.nanos // 1_000) if round_up else money.nanos // 1_000))


def units_of(money: Money) -> float:
    """Return an amount in units, as the nearest float."""
    return float(money.units + money.nanos / NANOS)


def set_micros(money: Money, micros: int) -> None:
    """Set the amount of a message to some micros, 0 or more."""
    money.units, money.nanos = micros // MICROS, micros % MICROS * 1_000
