"""Sun times equal those of the opening-hours library where those are right, and are right elsewhere."""

from collections import Counter
from datetime import datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from opening_hours import OpeningHours

from offers.catalogue.hours.schedules import SchedulePart, zone_clock
from offers.catalogue.hours.sun import EVENTS, take_apart

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
    """Between 60° south and north the four events are within four minutes of the library's, nearly all within two."""
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
    assert sum(number for minutes, number in away.items() if minutes > 2) < 0.02 * away.total()


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
        ("17:00-sunset", PARIS, "Europe/Paris", "2026-06-15", ["15 17:00 15 21:55"]),
        ("17:00-sunset", PARIS, "Europe/Paris", "2026-12-15", []),  # it has set by then: not open until the next day
        ("19:00-sunset", PARIS, "Europe/Paris", "2026-06-15", ["15 19:00 15 21:55"]),
        ("sunrise-06:00", PARIS, "Europe/Paris", "2026-06-15", ["15 05:46 15 06:00"]),
        ("sunrise-06:00", PARIS, "Europe/Paris", "2026-12-15", []),
        ("sunset-02:00; Mo off", PARIS, "Europe/Paris", "2026-12-15", ["15 00:00 15 02:00", "15 16:54 16 02:00"]),
        ("sunset-02:00; We off", PARIS, "Europe/Paris", "2026-12-15", ["15 00:00 15 02:00", "15 16:54 16 00:00"]),
        ("sunset-26:00; We off", PARIS, "Europe/Paris", "2026-12-15", ["15 00:00 15 02:00", "15 16:54 16 00:00"]),
        ("Tu 20:00-sunrise", PARIS, "Europe/Paris", "2026-12-15", ["15 20:00 16 08:38"]),
        ("Tu sunset-sunrise", PARIS, "Europe/Paris", "2026-12-15", ["15 16:54 16 08:38"]),
        ("(sunset-01:30)-(sunset+00:10)", PARIS, "Europe/Paris", "2026-12-15", ["15 15:24 15 17:04"]),
        ("(sunrise+03:00)-(sunset-03:00)", BERGEN, "Europe/Oslo", "2026-12-21", []),
        ("20:00-sunset", REYKJAVIK, "Atlantic/Reykjavik", "2026-06-21", ["21 00:00 21 00:03", "21 20:00 22 00:03"]),
        ("Su sunrise-sunset; Sa", PARIS, "Europe/Paris", "2026-06-20", ["20 00:00 21 00:00"]),
        ("sunrise-sunset", (69.65, 18.96), "Europe/Oslo", "2026-12-21", []),  # Tromsø
        ("sunset-sunrise", (69.65, 18.96), "Europe/Oslo", "2026-12-21", ["21 00:00 16 11:23"]),
        ("17:00-sunset", (69.65, 18.96), "Europe/Oslo", "2026-06-21", ["21 00:00 21 00:45", "21 17:00 22 00:45"]),
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


def test_days_are_those_of_the_library() -> None:
    """Taken apart and put together again, rules without the sun mean what the library reads in them.

    One span goes past midnight at most: of several rules' nights the library forgets all but the first's.
    """
    random = Random(6)
    days = ("", "Mo-Fr ", "Sa,Su ", "Fr-Mo ", "We ", "Jan 05-20 ", "week 01-53/2 ", "PH ", "Mo[1] ", "2026 Jan 14 ")
    begin = datetime(2026, 1, 1)  # noqa: DTZ001 - wall-clock time
    for _ in range(300):
        rules: list[str] = []
        nights = 0
        for _ in range(random.randint(1, 4)):
            if random.random() < 0.2:
                rules.append(random.choice(days) + random.choice(["off", "00:00-24:00"]))
                continue
            times = []
            for _ in range(random.randint(1, 3)):
                start = random.randrange(0, 1_440, random.choice([1, 15, 60]))
                end = start + random.choice([1, 30, 60, 600, 1_439])
                nights += end > 1_440
                end = end if nights <= 1 else min(end, 1_440)
                times.append(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}")
            rules.append(random.choice(days) + ",".join(times))
        separators = ["; "] if "off" in "".join(rules) else ["; ", ", "]
        expression = random.choice(separators).join(rules).strip()
        sunlit = take_apart(expression, "FR", 400)
        assert sunlit is not None
        local = second("2026-01-01")
        ours = list(sunlit.open_spans(local, local + 30 * 86_400, PARIS, lambda _: 0))
        hours = OpeningHours(expression, country="FR")
        for minute in random.sample(range(30 * 1_440), 300):
            inside = any(start <= local + 60 * minute < end for start, end in ours)
            assert hours.is_open(begin + timedelta(minutes=minute)) == inside, (expression, minute)
