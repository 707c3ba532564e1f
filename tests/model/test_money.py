"""Conversions of money."""

from google.type.money_pb2 import Money

from offers.model.money import micros_of, set_micros, units_of


def test_micros_are_rounded_as_asked() -> None:
    """A part of a millionth counts as a whole one, or not at all."""
    money = Money(currency_code="EUR", units=2, nanos=1_001)
    assert 2_000_002 == micros_of(money)
    assert 2_000_001 == micros_of(money, round_up=False)
    assert 2_500_000 == micros_of(Money(units=2, nanos=500_000_000)) == micros_of(Money(units=2, nanos=499_999_001))


def test_money_is_set_in_micros() -> None:
    """The currency stays."""
    money = Money(currency_code="EUR")
    set_micros(money, 9_000_001)
    assert Money(currency_code="EUR", units=9, nanos=1_000) == money
    assert 9.000001 == units_of(money)
