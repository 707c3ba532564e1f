"""The words of the command line for the values of an answer."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from offers.cli import words
from offers.v1.offer_pb2 import Benefit, Bundle, FreeDelivery
from offers.v1.offer_service_pb2 import Proposition, ReasonCode


@pytest.mark.parametrize("name", ReasonCode.keys()[1:])
def test_every_reason_code_is_in_words(name: str) -> None:
    """No code falls back to its number or to the letters of its name, and no two codes have the same words."""
    told = words.code_words(ReasonCode.Value(name))

    assert not told.startswith("reason ")
    assert not any(letter.isupper() or letter.isdigit() or letter == "_" for letter in told)
    assert [name] == [other for other in ReasonCode.keys()[1:] if words.code_words(ReasonCode.Value(other)) == told]


def test_a_code_of_a_newer_server_is_told_by_its_number() -> None:
    """A code that this version does not know is shown, not refused."""
    proposition = Proposition(reasons=[ReasonCode.REASON_CODE_NEARBY, 999])  # type: ignore[list-item]

    assert "nearby · reason 999" == words.reason_words(proposition)


def money(units: int, nanos: int = 0, currency: str = "EUR") -> Money:
    """Make a sum."""
    return Money(currency_code=currency, units=units, nanos=nanos)


@pytest.mark.parametrize(
    ("benefit", "told"),
    [
        (Benefit(percent_off=12.5), "−12.5 %"),  # noqa: RUF001 - a minus sign
        (Benefit(percent_off=50, maximum_discount=money(12)), "−50 %, up to €12"),  # noqa: RUF001 - a minus sign
        (Benefit(amount_off=money(5), minimum_order=money(20)), "€5 off, from €20"),
        (Benefit(fixed_price=money(13, 900_000_000)), "€13.90"),
        (Benefit(fixed_price=money(0, 5_000_000, "KWD")), "KWD 0.005"),
        (Benefit(fixed_price=money(1_200, currency="JPY")), "¥1,200"),
        (Benefit(free_delivery=FreeDelivery()), "free delivery"),
        (Benefit(free_delivery=FreeDelivery(maximum_distance_m=3000)), "free delivery within 3.0 km"),
        (Benefit(bundle=Bundle(quantity=3, paid_quantity=2, items="Pizzas")), "3 for 2"),
        (Benefit(bundle=Bundle(quantity=1, paid_quantity=0)), "1 for free"),
        (Benefit(bundle=Bundle(quantity=2, paid_quantity=2, items="Tea and cake")), "Tea and cake"),
        (Benefit(custom="a smile"), "a smile"),
    ],
)
def test_benefits_in_words(benefit: Benefit, told: str) -> None:
    """Each kind of benefit is said as people say it, with its terms."""
    assert told == words.benefit_words(benefit)


@pytest.mark.parametrize(
    ("metres", "told"),
    [(0.0, "0 m"), (449.6, "450 m"), (999.4, "999 m"), (999.6, "1.0 km"), (1234.0, "1.2 km"), (1_500_000, "1,500 km")],
)
def test_distances_in_words(metres: float, told: str) -> None:
    """Metres below a kilometre, kilometres from there on."""
    assert told == words.distance_words(metres)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("2026-11-24T22:30:00Z", "23:30"),
        ("2026-11-24T23:30:00Z", "Wed 25 Nov 00:30"),
        ("2026-12-31T23:00:00Z", "1 Jan 2027 00:00"),
    ],
)
def test_ends_in_words(end: str, told: str) -> None:
    """The end of an offer is told by the clock of the zone, as fully as it is far away."""
    zone = ZoneInfo("Europe/Paris")
    until = Timestamp()
    until.FromJsonString(end)

    assert told == words.until_words(Proposition(valid_until=until), datetime(2026, 11, 24, 12, 15, tzinfo=zone), zone)
