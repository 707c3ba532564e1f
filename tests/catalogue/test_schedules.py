"""Opening hours and clocks, held against published tables that nobody here wrote."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import opening_hours
import pytest

from offers.catalogue.schedules import FIRST_SECOND, LAST_SECOND, WEEK_MINUTES, Part, refusal, zone_clock

DATA = Path(__file__).parents[3] / "shared" / "data"
BERLIN = "Europe/Berlin"


def needs(path: Path) -> Path:
    """A table, or skip the test where the folder beside the project is absent."""
    if not path.exists():
        pytest.skip(f"the tables in {path.parent.name} are not beside the project")
    return path


def utc(local: str) -> int:
    """Seconds since 1970 that a wall clock in UTC reads so."""
    return int(datetime.fromisoformat(local).replace(tzinfo=UTC).timestamp())


def test_clocks_agree_with_a_table_of_unusual_changes() -> None:
    """Just before and at each change from 1970 on, the clock reads what the table says."""
    rows = 0
    with needs(DATA / "time_zones" / "edge_cases.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            change = int(datetime.fromisoformat(row["utc_instant"]).timestamp())
            if not FIRST_SECOND < change < LAST_SECOND:
                continue
            clock = zone_clock(row["zone"])
            for second, local in ((change - 1, row["local_before"]), (change, row["local_after"])):
                offset, until = clock.at(second)
                assert utc(local) == second + offset, row
                assert second < until
            rows += 1
    assert rows > 500


def test_clocks_of_all_zones_agree_with_the_standard_library() -> None:
    """At random instants from 1970 to 2100 every zone has the offset that zoneinfo gives."""
    random = Random(2)
    for name in sorted(available_timezones())[::8]:
        clock, zone = zone_clock(name), ZoneInfo(name)
        for _ in range(60):
            second = random.randrange(FIRST_SECOND, LAST_SECOND)
            offset = datetime.fromtimestamp(second, zone).utcoffset()
            assert offset is not None
            assert offset.total_seconds() == clock.at(second)[0], (name, second)


def test_unknown_zone_is_an_error() -> None:
    """A name that is no time zone is refused, not read as UTC."""
    with pytest.raises((ZoneInfoNotFoundError, ValueError)):
        zone_clock("Mars/Olympus")


def _instants(local: str) -> int:
    moment = datetime.strptime(local, "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(BERLIN))
    return int(moment.timestamp())


def _agrees(expression: str, case: dict[str, Any]) -> bool:
    """Whether a schedule is open in just the intervals of a case, minute by minute."""
    schedule = Part((expression,), BERLIN, "DE")
    wanted = [(_instants(start), _instants(end)) for start, end, *_ in case["expected_intervals"]]
    second, last, got = _instants(case["from_"]), _instants(case["to"]), []
    while second < last:
        is_open, until = schedule.at(second, zone_clock(BERLIN))
        if is_open:
            got.append((second, min(until, last)))
        second = until
    return wanted == got


def test_simple_cases_of_the_javascript_library_agree() -> None:
    """The plain grammar means what the reference library's own tests say it means.

    A case writes each meaning in several spellings, sloppy ones too: 51 of the 73 are refused. Of the 22 that are read,
    20 agree. The other two are spellings of one case, on Friday's hours past midnight: there, Saturday's rule replaces
    all of Saturday, and Friday ends at midnight; here, Friday's hours last until 01:00, as they were written.
    """
    cases = json.loads(needs(DATA / "opening_hours" / "cases.json").read_text(encoding="utf-8"))["tests"]
    spellings = [(text, case) for case in cases if case["simple"] for text in case["values"]]
    read = [(text, case) for text, case in spellings if refusal(text, "DE") is None]
    differing = [text for text, case in read if not _agrees(text, case)]
    past_midnight = [
        "Mo,Tu,We,Th,Fr,Su 11:00-01:00; Sa 11:00-02:00",
        "Mo, Tu, We, Th, Fr, Su 11:00-01:00; Sa 11:00-02:00",
    ]
    assert (73, 22, past_midnight) == (len(spellings), len(read), differing)


@pytest.mark.parametrize(
    ("expression", "country", "part"),
    [
        ("", "FR", "empty"),
        ("  ", "FR", "empty"),
        ("Mo-Fr 9-5pm", "FR", "grammar"),
        ("Mo-Fr 25:00-26:00", "FR", "grammar"),
        ('Mo 10:00-12:00 || "on call" foo', "FR", "grammar"),
        ("sunrise-sunset", "FR", "'sunrise'"),
        ("SH 10:00-12:00", "FR", "'SH'"),
        ("Mo 10:00-12:00 unknown", "FR", "'unknown'"),
        ("Mo 10:00+", "FR", "left open"),
        ("PH off", "", "needs a country"),
        ("PH off", "AQ", "no public holidays"),
        ("\0", "FR", "grammar"),
        ("Mo " * 500, "FR", "grammar"),
    ],
)
def test_hours_that_cannot_be_used_are_refused(expression: str, country: str, part: str) -> None:
    """Every kind of hours that cannot be used is refused, with what is wrong and what to write instead."""
    found = refusal(expression, country)
    assert found is not None
    assert part in found[0]
    assert found[1]


@pytest.mark.parametrize("comment", ["SH", "unknown", "sunrise", "PH", "10+"])
def test_comments_are_not_read_as_rules(comment: str) -> None:
    """A word in a comment is not the rule of the same name."""
    assert refusal(f'Mo-Fr 10:00-12:00 "{comment}"', "") is None


def test_weeks_are_what_the_library_says() -> None:
    """The spans of a week, of random rules, equal the library's reading of every minute of a week, now and in 2050."""
    random = Random(3)
    days = ("", "Mo-Fr ", "Sa,Su ", "Fr-Mo ", "We ")
    for _ in range(60):
        rules = []
        for _ in range(random.randint(1, 3)):
            start = random.randrange(0, 1_440, random.choice([1, 15, 60]))
            end = start + random.choice([1, 30, 60, 600, 1_439])
            span = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
            rules.append(random.choice(days) + random.choice([span, span, span, "off"]))
        expression = random.choice(["; ", ", "]).join(rules)
        if refusal(expression, "") is not None:
            continue
        week = Part((expression,)).weekly()
        assert week is not None
        hours = opening_hours.OpeningHours(expression)
        for monday in (utc("2026-06-15"), utc("2050-01-03")):
            for _ in range(80):
                minute = random.randrange(WEEK_MINUTES)
                moment = datetime.fromtimestamp(monday + 60 * minute, UTC).replace(tzinfo=None)
                assert hours.is_open(moment) == any(start <= minute < end for start, end in week), (expression, moment)
