"""Sun times are near those of the opening-hours library where it is right, and go with the clock and other rules."""

from collections import Counter
from datetime import date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from opening_hours import OpeningHours

from offers.catalogue.hours.days import days_of
from offers.catalogue.hours.rules import hours_of
from offers.catalogue.hours.schedules import SchedulePart, zone_clock
from offers.catalogue.hours.sun import EVENTS

PARIS, REYKJAVIK, BERGEN = (48.8566, 2.3522), (64.1466, -21.9426), (60.3913, 5.3221)
ANADYR = (66.0, -172.0)
"""In the zone of UTC+12, though east of the antimeridian."""


def second(text: str, zone: str = "UTC") -> int:
    """Return the instant at which a wall clock reads a time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def spans(rule: str, place: tuple[float, float], zone: str, day: str, days: int = 1) -> list[str]:
    """Return the open spans of some days in wall-clock time."""
    begin = second(day, zone)
    found = SchedulePart((rule,), zone, "", place).spans(begin, begin + 86_400 * days, zone_clock(zone))
    return [" ".join(f"{datetime.fromtimestamp(moment, ZoneInfo(zone)):%d %H:%M}" for moment in span) for span in found]


def test_sun_rises_when_the_library_says() -> None:
    """Between 60° south and north the four events are within four minutes of the library's, which is less exact."""
    random, away = Random(5), Counter[int]()
    for _ in range(400):
        place = random.uniform(-60, 60), random.uniform(-170, 170)
        day = second("1990-01-01") + 86_400 * random.randrange(30_000)
        for event in EVENTS:
            theirs = [
                int(until.timestamp())
                for _, until, state, _ in OpeningHours(
                    f"00:00-{event}", timezone=ZoneInfo("UTC"), coords=place, auto_country=False
                ).intervals(*(datetime.fromtimestamp(day + 86_400 * step, ZoneInfo("UTC")) for step in (-1, 3)))
                if "OPEN" in repr(state)
            ]
            zone = f"Etc/GMT{-round(place[1] / 15):+}"
            offset = zone_clock(zone).at(day)[0]
            ours = SchedulePart((f"00:00-{event}",), zone, "", place).spans(
                day - offset, day + 1 - offset, zone_clock(zone)
            )
            away[min(abs(moment - ours[0][1]) // 60 for moment in theirs)] += 1
    assert max(away) <= 4
    assert sum(number for minutes, number in away.items() if minutes > 2) < 0.03 * away.total()


@pytest.mark.parametrize("place", [(0.0, 0.0), ANADYR, REYKJAVIK, (-45.0, 179.9), (50.0, -179.9)])
def test_daylight_does_not_depend_on_the_clock(place: tuple[float, float]) -> None:
    """Whatever clock hours are read by, the sun rises and sets at the same instants."""
    begin = second("2026-04-10")
    by_clock = [
        SchedulePart(("sunrise-sunset",), zone, "", place).spans(begin, begin + 10 * 86_400, zone_clock(zone))
        for zone in ("UTC", "Etc/GMT-14", "Etc/GMT+12", "Asia/Kathmandu", "Asia/Anadyr")
    ]
    assert [by_clock[0]] * 5 == by_clock


@pytest.mark.parametrize(
    ("rule", "place", "zone", "day", "wanted"),
    [
        ("17:00-sunset", PARIS, "Europe/Paris", "2026-06-15", ["15 17:00 15 21:56"]),
        ("17:00-sunset", PARIS, "Europe/Paris", "2026-12-15", []),  # it has set by then: not open until the next day
        ("19:00-sunset", PARIS, "Europe/Paris", "2026-06-15", ["15 19:00 15 21:56"]),
        ("sunrise-06:00", PARIS, "Europe/Paris", "2026-06-15", ["15 05:46 15 06:00"]),
        ("sunrise-06:00", PARIS, "Europe/Paris", "2026-12-15", []),
        ("sunset-02:00; Mo off", PARIS, "Europe/Paris", "2026-12-15", ["15 16:54 16 02:00"]),
        ("sunset-02:00; We off", PARIS, "Europe/Paris", "2026-12-15", ["15 00:00 15 02:00", "15 16:54 16 02:00"]),
        ("sunset-26:00; We off", PARIS, "Europe/Paris", "2026-12-15", ["15 00:00 15 02:00", "15 16:54 16 02:00"]),
        ("Tu 20:00-sunrise", PARIS, "Europe/Paris", "2026-12-15", ["15 20:00 16 08:38"]),
        ("Tu sunset-sunrise", PARIS, "Europe/Paris", "2026-12-15", ["15 16:54 16 08:38"]),
        ("(sunset-01:30)-(sunset+00:10)", PARIS, "Europe/Paris", "2026-12-15", ["15 15:24 15 17:04"]),
        ("(sunrise+03:00)-(sunset-03:00)", BERGEN, "Europe/Oslo", "2026-12-21", []),
        ("20:00-sunset", REYKJAVIK, "Atlantic/Reykjavik", "2026-06-21", ["21 00:00 21 00:04", "21 20:00 22 00:04"]),
        ("Su sunrise-sunset; Sa", PARIS, "Europe/Paris", "2026-06-20", ["20 00:00 21 00:00"]),
        ("sunrise-sunset", (69.65, 18.96), "Europe/Oslo", "2026-12-21", []),  # Tromsø
        ("sunset-sunrise", (69.65, 18.96), "Europe/Oslo", "2026-12-21", ["21 00:00 15 11:35"]),
        ("17:00-sunset", (69.65, 18.96), "Europe/Oslo", "2026-06-21", ["21 00:00 21 00:46", "21 17:00 22 00:46"]),
        ("sunrise-sunset", (-67.6, 62.9), "Etc/GMT-5", "2026-06-21", []),  # Mawson, Antarctica
        ("dusk-dawn", (-78.0, 100.0), "Etc/GMT-7", "2026-12-21", []),
    ],
)
def test_spans_of_sun_and_clock(rule: str, place: tuple[float, float], zone: str, day: str, wanted: list[str]) -> None:
    """Spans end where they are meant to; on days on which they would end before they begin, they are not."""
    assert wanted == spans(rule, place, zone, day)


@pytest.mark.parametrize("latitude", [90.0, 80.0, -80.0, -90.0])
def test_polar_day_and_night(latitude: float) -> None:
    """Near the poles the sun is up for one half of the year, the half that it is, and down for the other."""
    summer, winter = ("2026-06-15", "2026-12-15") if latitude > 0 else ("2026-12-15", "2026-06-15")
    for longitude in (-180.0, -100.0, 0.0, 77.0, 180.0):
        place = latitude, longitude
        begin, clock = second(summer), zone_clock("UTC")
        ((start, end),) = SchedulePart(("sunrise-sunset",), "UTC", "", place).spans(begin, begin + 5 * 86_400, clock)
        assert start == begin
        assert end > begin + 20 * 86_400
        assert [] == spans("sunrise-sunset", place, "UTC", winter, 5)
        assert [] == spans("sunset-sunrise", place, "UTC", summer, 5)


def test_sun_among_other_rules() -> None:
    """Rules that name the sun go with others as rules do that give its times for each date."""
    random = Random(6)
    sun = ("sunrise-sunset", "sunset-sunrise", "dusk-02:00", "12:00-(sunset+01:00)", "(dawn-00:30)-09:00")
    others = ("Mo-Su 10:00-14:00", "22:00-03:00", "PH off", "We off", "12:00-13:00 off", "24/7", 'Sa "call"', "Jun off")
    days = ("", "Mo-Fr ", "Sa,Su ", "PH ", "Jun 01-10 ", "Tu,PH -1 day ")
    first = (date(2026, 5, 25) - date(1970, 1, 1)).days
    begin, end, clock = 86_400 * (first + 4), 86_400 * (first + 18), zone_clock("UTC")
    for _ in range(150):
        rule, on = random.choice(sun), random.choice(days)
        before, after = ([random.choice(others) for _ in range(random.choice([0, 1, 1, 2]))] for _ in range(2))
        held = days_of(hours_of(f"{on}00:00-24:00").rules[0].days, "FR", first, 24)
        dated = [_written(rule, first + number) for number in range(24) if held >> number & 1]
        expression, spelled = ("; ".join([*before, *rules, *after]) for rules in ([f"{on}{rule}"], dated))
        wanted = SchedulePart((spelled,), "UTC", "FR", PARIS).spans(begin, end, clock)
        assert wanted == SchedulePart((expression,), "UTC", "FR", PARIS).spans(begin, end, clock), (expression, spelled)


def _written(rule: str, day: int) -> str:
    """Return a rule for a day since 1970 with times of the clock in place of events of the sun."""
    (span,) = hours_of(rule).rules[0].spans
    start, stop = (
        moment.second(day + away, PARIS, lambda _: 0) // 60 - 1_440 * day
        for moment, away in ((span.begin, 0), (span.end, span.is_overnight))
    )
    named = f"{date(1970, 1, 1) + timedelta(days=day):%Y %b %d}"
    return f"{named} {start // 60:02}:{start % 60:02}-{stop // 60:02}:{stop % 60:02}"
