"""Currencies and their minor units."""

import pytest
from google.type.money_pb2 import Money

from offers.model.currencies import CURRENCIES, PAST_CURRENCIES, fraction_fault


@pytest.mark.parametrize(
    ("decimals", "codes"),
    [
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    ],
)
def test_decimals_are_those_of_the_standard(decimals: int, codes: str) -> None:
    """All currencies without two decimals are known."""
    assert codes.split() == sorted(code for code, known in CURRENCIES.items() if known == decimals)


def test_codes_are_currencies_that_are_paid_with() -> None:
    """Metals, units of account, tests, unknown and withdrawn codes are none; events may be of the recent past."""
    assert 165 == len(CURRENCIES)
    assert {"EUR", "USD", "GBP", "CHF", "XCG", "ZWG", "SLE", "VED"} <= CURRENCIES.keys()
    assert CURRENCIES.keys().isdisjoint({"XYZ", "XXX", "XTS", "XAU", "XDR", "DEM", "HRK", "BGN", "eur", ""})
    assert {"HRK": 2, "BGN": 2, "SLL": 2} == {code: PAST_CURRENCIES[code] for code in ("HRK", "BGN", "SLL")}
    assert "DEM" not in PAST_CURRENCIES


@pytest.mark.parametrize(
    ("code", "nanos", "fault"),
    [
        ("JPY", 500_000_000, "0.5 has too many decimals: JPY has none"),
        ("EUR", 5_000_000, "0.005 has too many decimals: EUR has 2"),
        ("KWD", 500_000, "0.0005 has too many decimals: KWD has 3"),
        ("USD", -1, "0.000000001 has too many decimals: USD has 2"),
        ("JPY", 0, ""),
        ("EUR", 990_000_000, ""),
        ("BHD", 999_000_000, ""),
        ("CLF", 100_000, ""),
    ],
)
def test_amounts_are_whole_numbers_of_minor_units(code: str, nanos: int, fault: str) -> None:
    """Half a yen and half a cent cannot be paid, a fils can."""
    assert fault == fraction_fault(Money(currency_code=code, nanos=nanos), CURRENCIES[code])
