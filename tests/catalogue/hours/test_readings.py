"""Hours that opening_hours.js reads differently are found, with an example, and no others."""

import json
from datetime import date, timedelta

import pytest

from offers.catalogue.hours import readings
from offers.catalogue.hours.grammar import refusal
from offers.catalogue.hours.readings import difference
from offers.catalogue.hours.rules import hours_of
from offers.catalogue.hours.sun import names_sun
from tests.catalogue.hours.test_schedules import needs
from tests.paths import DATA

DAY = 1_440


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("Mo-Th 11:00-23:00; Fr,Sa 11:00-02:00; Su 12:00-22:00", "on Sunday from 00:00 to 02:00 it is open;"),
        ("22:00-02:00; Tu 12:00-14:00", "on Tuesday from 00:00 to 02:00 it is open;"),
        ("Mo-Fr 18:00-02:00; Sa 18:00-03:00", "on Saturday from 00:00 to 02:00 it is open;"),
        ("Mo-Su 18:00-03:00; Sa 10:00-14:00", "on Saturday from 00:00 to 03:00 it is open;"),
        ("Mo-Su 18:00-03:00; PH off", "from 00:00 to 03:00 it is closed; opening_hours.js reads open"),  # 2 January
        ("Mo-Su 18:00-03:00; Dec 24 off", "-12-24 from 00:00 to 03:00 it is open; opening_hours.js reads closed"),
        ("Mo-Fr 22:00-06:00; Sa 00:00-06:00; Dec 24 off", "-12-24 from 00:00 to 06:00 it is open;"),
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
    assert words in difference(expression, "DE", 2026)


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


def minute(local: str) -> int:
    """Return the minute since 1970 at which a wall clock reads a time of the cases."""
    day, _, time = local.partition(" ")
    year, month, number = map(int, day.split("-"))
    hours, minutes = map(int, (time or "0:0").split(":"))
    begin = date(year, month, 1) + timedelta(days=number - 1)  # the 31st of November is the 1st of December
    return (begin - date(1970, 1, 1)).days * DAY + hours * 60 + minutes


def test_the_other_reading_is_that_of_the_other_library() -> None:
    """What opening_hours.js is said to read is what its own cases want; the rest is told by its kind."""
    alike = 0
    cases = json.loads(needs(DATA / "opening_hours" / "cases.json").read_text(encoding="utf-8"))["tests"]
    for case in cases:
        if "T" in case["from_"]:
            continue
        begin, end = minute(case["from_"]), minute(case["to"])
        wanted = [[minute(edge) for edge in span[:2]] for span in case["expected_intervals"] if not any(span[2:3])]
        for text in case["values"]:
            if refusal(text, "DE") is not None or "PH" in text or names_sun(text):
                continue
            hours, equal = hours_of(text), True
            for day in range(begin // DAY, min((end - 1) // DAY + 1, begin // DAY + 400)):
                asked = (1 << min(end - day * DAY, DAY)) - (1 << max(begin - day * DAY, 0))
                spans = ((60 * start, 60 * stop) for start, stop in wanted)
                theirs = readings._theirs(hours, "", day)  # noqa: SLF001 - only differences are told
                equal = equal and not (theirs ^ readings._minutes(spans, day)) & asked  # noqa: SLF001
            alike += equal
            assert equal or difference(text, "DE").startswith(("hours with a comment", "a range up to", "on Mo it is"))
    assert alike == 117
