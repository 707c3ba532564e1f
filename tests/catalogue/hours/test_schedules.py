"""Opening hours and clocks, held against published tables that nobody here wrote."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pytest

from offers.catalogue.hours.grammar import refusal
from offers.catalogue.hours.readings import difference
from offers.catalogue.hours.schedules import (
    FIRST_SECOND,
    LAST_SECOND,
    NEVER,
    Schedule,
    SchedulePart,
    zone_clock,
)
from offers.catalogue.hours.sun import names_sun
from tests.paths import DATA

BERLIN = "Europe/Berlin"


def needs(path: Path) -> Path:
    """Return a table, or skip the test if the folder beside the project is absent."""
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


COUNTRIES = {
    "Italian": "IT",
    "Russian": "RU",
    "United States": "US",
    "Argentina": "AR",
    "Australia": "AU",
    "Swedish": "SE",
    "Ireland": "IE",
}
"""The country of a case's holidays, by a word in its name; otherwise the case names one, or Germany is meant."""
HERE = (49.5400039, 9.7937133)
"""The position of cases that name none."""
SUN_S = 120
"""Minutes by which the sun times of the two libraries may differ."""
OF_THE_SUN = {
    "Variable times e.g. dawn, dusk without coordinates (→ constant times)": "here the sun always is that of a place",
    "Variable times boundary: zero-length is excluded": "a minute's difference of the sun makes or unmakes the day",
    "Variable times which moves over fix end time": "a minute's difference of the sun makes or unmakes the day",
}
"""Cases in which the sun is another, and why."""
DIFFERING = {
    "Time ranges spanning midnight with date overwriting": "a span belongs to the day on which it begins",
    "Real world example: Was not processed right": "a span belongs to the day on which it begins",
    "Real world example: Problem with daylight saving?": "a span belongs to the day on which it begins",
    "Additional comments for unknown": "a comment beside times does not make them unknown",
    "Real world example: Was not processed right (month range/monthday range)": "a range up to easter includes it",
    "Calculations based on variable events": "a range up to easter includes it",
}
"""Cases read otherwise, and why. docs/guides/hours-and-places.md lists them."""
REGIONAL = ("ublic holidays", "PH", "Even-year holidays", "Weekday in given week", "holiday parser")
"""Words of cases that mean the holidays of a region by its name, or whose source lists other days."""
SYNTAX_KEPT = (
    *("week 02-52/2 We, week 01-53/2 Sa 0:00-24:00", "PH, Aug-Sep 00:00-24:00", "We, Aug Mo", "2014, Aug Mo"),
    *("week 05, Aug Mo", "Jun 02-5, week 05 00:00-24:00", "2012, Jan"),  # rules, of which one is for whole days
    "2014-2014",
)
"""Rules of the grammar of which the other library warns."""


def _instant(local: str) -> int:
    if "T" in local:
        return int(datetime.fromisoformat(local).timestamp())
    day, _, time = local.partition(" ")
    year, month, number = map(int, day.split("-"))
    hour, minute = map(int, (time or "0:0").split(":"))
    moment = datetime(year, month, 1, tzinfo=ZoneInfo(BERLIN)) + timedelta(days=number - 1, hours=hour, minutes=minute)
    return int(moment.timestamp())  # the 31st of November is the 1st of December


def _agrees(expression: str, country: str, case: dict[str, Any]) -> bool:
    """Whether hours are open in just the intervals of a case, where the sun is meant within two minutes."""
    begin, end, place = _instant(case["from_"]), _instant(case["to"]), case["nominatim"] or {}
    position = (float(place.get("lat") or HERE[0]), float(place.get("lon") or HERE[1]))
    part, clock = SchedulePart((expression,), BERLIN, country, position), zone_clock(BERLIN)
    got = [moment for start, until in part.spans(begin, end, clock) for moment in (start, min(until, end))]
    wanted: list[int] = []
    for start, until, *unknown in case["expected_intervals"]:
        if unknown and unknown[0]:
            continue
        if wanted and wanted[-1] == _instant(start):
            wanted.pop()
        else:
            wanted.append(_instant(start))
        wanted.append(_instant(until))
    most = SUN_S if names_sun(expression) else 0
    return len(wanted) == len(got) and all(abs(ours - theirs) <= most for ours, theirs in zip(got, wanted, strict=True))


def _cases() -> dict[str, Any]:
    cases: dict[str, Any] = json.loads(needs(DATA / "opening_hours" / "cases.json").read_text(encoding="utf-8"))
    return cases


def test_cases_of_the_javascript_library_agree() -> None:
    """Every case that can be read means what the reference library's own tests say, but for those listed with reason.

    A case writes each meaning in several spellings, many of them sloppy on purpose: those are refused.
    """
    spellings = agreeing = simple = 0
    differing: set[str] = set()
    for case in _cases()["tests"]:
        own = (case["nominatim"] or {}).get("country_code")
        country = own or next((code for word, code in COUNTRIES.items() if word in case["name"]), "de")
        for text in case["values"]:
            if refusal(text, country.upper()) is not None:
                continue
            spellings += 1
            if _agrees(text, country.upper(), case):
                agreeing += 1
                simple += case["simple"]
            elif not any(word in case["name"] for word in REGIONAL):
                differing.add(case["name"])
                assert case["name"] in OF_THE_SUN or difference(text, country.upper()), text
            else:
                assert "PH" in text
    assert differing == {*OF_THE_SUN, *DIFFERING}
    assert (198, 142, 19) == (spellings, agreeing, simple)


def test_what_the_javascript_library_refuses_is_refused() -> None:
    """Hours that must fail do, with the position of the fault; those in the grammar that it only warns of do not."""
    kept = []
    cases = _cases()["should_fail"]
    for case in cases:
        for text in case["values"] if case["name"].startswith("Incorrect syntax") else ():
            expression, _, _ = text.partition("; 00:23-00:42 unknown")  # a part that is refused for itself
            found = refusal(expression, "DE")
            if found is None:
                kept.append(expression)
            else:
                assert "empty" in found[0] or re.search(r"at position \d+", found[0]), expression
    assert sorted(SYNTAX_KEPT) == sorted(kept)
    assert refusal("PH", "") is not None


@pytest.mark.parametrize(
    ("expression", "country", "part"),
    [
        ("", "FR", "empty"),
        ("  ", "FR", "empty"),
        ("Mo-Fr 9-5pm", "FR", "grammar"),
        ("Mo-Fr 25:00-26:00", "FR", "grammar"),
        ('Mo 10:00-12:00 || "on call" foo', "FR", "grammar"),
        ("Mo sunrise-sunset+", "FR", "left open at position 18"),
        ("(sunrise+01:00)+", "FR", "left open at position 16"),
        ("17:00+", "FR", "the end left open at position 6"),
        ('"by appointment"', "FR", "a comment without times at position 1"),
        ('Mo 10:00-12:00; "on call"', "FR", "a comment without times at position 17"),
        ("10:00-16:00/01:30", "FR", "'/' (points in time) at position 12"),
        ("sunrise-sunset/01:30", "FR", "'/' (points in time) at position 15"),
        ("Mo; Feb 30 off", "FR", "'Feb 30' at position 5 is not in the calendar"),
        ("Jun 30-24", "FR", "'Jun 30-24' at position 1 is not in the calendar"),
        ("week 10-20/1", "FR", "the step 1 at position 12 leaves out no week"),
        ("SH 10:00-12:00", "FR", "'SH'"),
        ("Su 10:00-12:00; PH Mo-Fr 10:00-12:00", "FR", "holidays beside weekdays at position 17"),
        ("PH +1 day Mo 10:00-12:00", "FR", "holidays beside weekdays at position 1"),
        ("Su[-1] PH off", "FR", "holidays beside weekdays at position 1"),
        ("Mo 10:00-12:00 unknown", "FR", "'unknown'"),
        ("Mo 10:00+", "FR", "left open"),
        ("PH off", "", "needs a country"),
        ("PH off", "XX", "no public holidays are known for country 'XX'"),
        ("PH off", "DE-ZZ", "no public holidays are known for region 'DE-ZZ'"),
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


@pytest.mark.parametrize(
    "expression",
    [
        *("sunrise-sunset", "(sunset-01:00)-24:00", "Mo-Fr (sunrise+01:30)-(dusk-00:10),20:00-02:00; PH,Su off"),
        "PH +1 day sunrise-sunset",
        *("sunrise-sunset; Mo 12:00-13:00 off", ",".join(["sunrise-sunset"] * 501)),
        *("Mo 10:00-12:00 || Tu 10:00-12:00", 'Mo 10:00-12:00 || "on call"', 'Sa "by appointment"'),
        *("2026+", "2026+ Mo-Fr 09:00-18:00", "Jun 24+ 10:00-12:00", "easter +1 day", "easter -2 days-easter +1 day"),
        *(
            "week 01-53/2 Mo",
            "week 10-20/10",
            "Jan 01-Feb 28",
            "Jun 24-30 10:00-12:00",
            "Jun 24-Jul 02",
        ),
        *("Mo-Fr,PH 10:00-12:00", "PH, Mo 10:00-12:00", "Su; PH off", 'PH 10:00-12:00; Mo "PH"'),
        *("Mo[-1] 10:00-12:00", "PH +1 day 10:00-12:00", "PH -1 day off", "easter -2 days off", "Nov-Feb 10:00-12:00"),
    ],
)
def test_hours_that_can_be_used(expression: str) -> None:
    """Sun, week numbers, dates, the nth weekday and days beside holidays are in the grammar."""
    assert refusal(expression, "FR") is None


def test_hours_by_the_sun_need_a_place() -> None:
    """Hours that name the sun are refused for offers shown everywhere, with the position of the word."""
    found = refusal('10:00-12:00 "sunrise"; Sa 10:00-Sunset', "", placed=False)
    assert found is not None
    assert found[0].startswith("'Sunset' at position 33 needs a place")


@pytest.mark.parametrize("comment", ["SH", "unknown", "sunrise", "PH", "10+", "||", "Feb 30", "10:00-12:00/30"])
def test_comments_are_not_read_as_rules(comment: str) -> None:
    """A word in a comment is not the rule of the same name."""
    assert refusal(f'Mo-Fr 10:00-12:00 "{comment}"', "", placed=False) is None


FORMS = (
    *("Mo-Fr 09:00-17:00; PH off", "Mo-Su 18:00-06:00; Dec 31 off", "Jan 01 00:00-24:00", "Mo[1] 10:00-12:00", "24/7"),
    *("week 01-53/2 Mo-Fr 08:00-12:00", "PH 10:00-12:00", "Mo-Su 02:00-02:30", "off", "Mo 12:00-16:00"),
    *("sunrise-sunset", "22:00-sunrise; Su off", "2026 Mar 29 00:00-24:00", "Fr 20:00-24:00; Sa 00:00-05:00"),
)


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/Sao_Paulo", "Pacific/Apia", "Africa/Monrovia"])
def test_spans_are_what_is_open(zone: str) -> None:
    """The spans between two instants are just where a schedule is open; the last one ends where it does, or beyond."""
    random = Random(zone)
    clock = zone_clock(zone)
    for _ in range(60):
        parts = tuple(
            SchedulePart(
                tuple(random.sample(FORMS, random.choice([1, 1, 2, 3]))),
                zone,
                "FR",
                (random.uniform(-70, 70), random.uniform(-180, 180)),
                random.choice([0, 0, 1, 90, 3_600, 86_400]),
            )
            for _ in range(random.choice([1, 1, 2, 3]))
        )
        schedule = Schedule(parts)
        begin = random.choice(
            [1_774_700_000, 1_541_200_000, 1_325_200_000, 62_000_000, random.randrange(4_000_000_000)]
        )
        end = begin + random.choice([1, 86_399, 9 * 86_400])
        spans = schedule.spans(begin, end, lambda _: clock)
        edges = [moment for span in spans for moment in span]
        assert edges == sorted(set(edges))
        assert all(begin <= start < end for start, _ in spans)
        for second in {begin, end - 1, *(random.randrange(begin, end) for _ in range(20)), *edges} & set(
            range(begin, end)
        ):
            is_open, until = schedule.at(second, lambda _: clock)
            inside = [stop for start, stop in spans if start <= second < stop]
            assert bool(inside) == is_open, (parts, second)
            if is_open:
                assert inside == [until]
            else:
                assert until <= min([start for start, _ in spans if start > second], default=NEVER)


@pytest.mark.parametrize(
    ("rule", "margin"), [("Mo-Su 00:00-24:00", 0), ("Mo-Su 02:30-03:30", 1_800), ("Su 01:00-02:30", 90)]
)
def test_a_margin_is_of_instants(rule: str, margin: int) -> None:
    """Hours end a margin of real time before each closing, also across a clock change; 24/7 never closes."""
    forward = utc("2026-03-29T01:00")  # 02:00 becomes 03:00 in Paris
    part = SchedulePart((rule,), "Europe/Paris", closing_margin=margin)
    whole = SchedulePart((rule,), "Europe/Paris").spans(forward - 86_400, forward + 86_400, zone_clock("Europe/Paris"))
    cut = part.spans(forward - 86_400, forward + 86_400, zone_clock("Europe/Paris"))
    if rule.endswith("24:00"):
        assert [(forward - 86_400, NEVER)] == whole == cut
    else:
        assert [(start, end - margin) for start, end in whole if end - start > margin] == cut
        assert len(cut) < len(whole) or rule.startswith("Su")
