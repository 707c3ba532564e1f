"""Hours that opening_hours.js reads differently are found, with an example, and no others."""

import pytest

from offers.catalogue.hours.grammar import refusal
from offers.catalogue.hours.readings import difference


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("Mo-Th 11:00-23:00; Fr,Sa 11:00-02:00; Su 12:00-22:00", "on Sunday from 00:00 to 02:00 it is open;"),
        ("22:00-02:00; Tu 12:00-14:00", "on Tuesday from 00:00 to 02:00 it is open;"),
        ("Mo-Fr 18:00-02:00; Sa 18:00-03:00", "on Saturday from 00:00 to 02:00 it is open;"),
        ("Mo-Su 18:00-03:00; Sa 10:00-14:00", "on Saturday from 00:00 to 03:00 it is open;"),
        ("Mo-Su 18:00-03:00; PH off", "from 00:00 to 03:00 it is closed; opening_hours.js reads open"),  # 2 January
        ("Mo-Su 18:00-03:00; Dec 24 off", "-12-24 from 00:00 to 03:00 it is open; opening_hours.js reads closed"),
        ("sunset-02:00; We off", "from 00:00 to 02:00 it is open;"),
        ("Mo-Fr 09:00-17:00; 12:00-14:00", "from 09:00 to 12:00 it is closed; opening_hours.js reads open"),
        ("Mo, Tu, We 11:00-14:00", "on Mo it is open all day; opening_hours.js"),
        ('Sa 10:00-12:00 "call"', "hours with a comment are open; opening_hours.js calls them unknown"),
        ("Dec 25-easter 10:00-12:00", "a range up to easter includes that day"),
        ("easter -2 days-easter +1 day off", "a range up to easter includes that day"),
    ],
)
def test_differing_hours(expression: str, words: str) -> None:
    """The difference is told with the first time at which it shows, or by its kind."""
    assert refusal(expression, "DE") is None
    assert words in difference(expression, "DE")


@pytest.mark.parametrize(
    "expression",
    [
        *("", "24/7", "off", "Mo-Fr 09:00-17:00; Sa 10:00-12:00; PH off", "Mo-Sa 09:00-18:00; Su 20:00-02:00"),
        *("Mo-Fr 10:00-24:00; PH off", "Mo-Fr 18:00-02:00, Sa 18:00-03:00", "24/7; Mo 15:00-16:00 off"),
        *("Mo-Fr 22:00-06:00; Sa 00:00-06:00", 'Mo-Fr 09:00-17:00; Sa "by appointment"', 'Sa open "call"'),
        *('Mo-Fr 08:00-12:00 || "ring"', "Mo-Fr 08:00-12:00 || Sa 10:00-12:00", "easter +1 day", "Mo,Tu 10:00-12:00"),
        *('Mo-Fr 09:00-17:00; Sa off "holiday"', "2026+ Mo-Fr 09:00-18:00", "Mo-Su 22:00-04:00"),
    ],
)
def test_hours_that_are_read_alike(expression: str) -> None:
    """Hours without any difference get no word."""
    assert not difference(expression, "DE")
