"""Rules are applied to days: known cases, and random rules against a reading of every minute."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import NamedTuple

import holidays
import pytest
from opening_hours import OpeningHours

from offers.catalogue.hours.grammar import refusal
from offers.catalogue.hours.rules import hours_of, normal_form
from offers.catalogue.hours.schedules import NEVER, WEEK_MINUTES, SchedulePart, zone_clock
from tests.catalogue.hours.easter import easter

DAY = 1_440
EPOCH = date(1970, 1, 1)


def second(text: str) -> int:
    """Return the instant at which a wall clock in UTC reads a time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def is_open(expression: str, at: str, country: str = "DE") -> bool:
    """Whether hours are open when the wall clock reads a time."""
    assert refusal(expression, country) is None
    return SchedulePart((expression,), "UTC", country).at(second(at), zone_clock("UTC"))[0]


@pytest.mark.parametrize(
    ("expression", "opened", "closed"),
    [
        # A night lasts into a day that has hours of its own.
        ("Fr,Sa 11:00-02:00; Su 12:00-22:00", ["2026-06-14T00:30", "2026-06-14T12:00"], ["2026-06-14T02:00"]),
        ("Mo-Sa 09:00-18:00; Su 20:00-02:00", ["2026-06-15T01:00", "2026-06-15T09:00"], ["2026-06-15T02:00"]),
        ("Mo-Fr 22:00-06:00; Sa 10:00-12:00; Su 10:00-12:00", ["2026-06-13T05:59"], ["2026-06-14T05:59"]),
        ("Mo-Su 18:00-03:00; We 10:00-12:00", ["2026-06-10T02:59"], ["2026-06-10T18:00", "2026-06-11T01:00"]),
        # 1 May 2026 is a Friday and a holiday.
        (
            "Mo-Su 18:00-03:00; PH off",
            ["2026-05-01T01:00", "2026-05-02T20:00"],
            ["2026-05-01T03:00", "2026-05-01T20:00", "2026-05-02T01:00"],
        ),
        ("Mo-Su 18:00-03:00; PH 18:00-20:00", ["2026-05-01T01:00", "2026-05-01T19:00"], ["2026-05-02T01:00"]),
        ("Mo-Su 18:00-03:00, PH off", ["2026-05-01T01:00"], ["2026-05-01T20:00", "2026-05-02T01:00"]),
        ("PH 20:00-04:00", ["2026-05-02T03:00"], ["2026-05-01T03:00"]),
        # Times that are off are closed, whichever day the span belongs to.
        ("Mo-Su 18:00-03:00; Sa 01:00-02:00 off", ["2026-06-13T00:59", "2026-06-13T02:00"], ["2026-06-13T01:30"]),
        ("Mo-Su 08:00-18:00; We 12:00-14:00 off", ["2026-06-10T11:59"], ["2026-06-10T12:00", "2026-06-10T13:59"]),
        ("Mo-Su 18:00-03:00; Fr 22:00-01:00 off", ["2026-06-13T01:00"], ["2026-06-12T22:00", "2026-06-13T00:59"]),
        ("Sa 00:00-01:00 off; Mo-Su 18:00-03:00", ["2026-06-13T00:30"], []),
        ("Mo-Su 18:00-03:00; Sa 00:00-01:00 off; Sa 10:00-12:00", ["2026-06-13T00:30"], ["2026-06-13T18:00"]),
        ("Mo-Su 18:00-03:00; Sa 00:00-01:00 off; Sa off", ["2026-06-13T01:30"], ["2026-06-13T00:30"]),
        # Later rules replace earlier ones, add to them, or hold otherwise.
        ("Mo-Fr 09:00-17:00; We 10:00-12:00", ["2026-06-10T10:00"], ["2026-06-10T09:00"]),
        ("Mo-Fr 09:00-12:00, We 14:00-16:00", ["2026-06-10T09:00", "2026-06-10T15:00"], ["2026-06-10T13:00"]),
        ("Mo-Fr 09:00-12:00 || Mo-Sa 11:00-13:00", ["2026-06-13T11:00", "2026-06-10T12:30"], ["2026-06-13T10:00"]),
        ("Mo-Fr 09:00-12:00 || off", ["2026-06-10T09:00"], ["2026-06-13T09:00"]),
        ('We 09:00-12:00 || "ring" || 24/7', ["2026-06-10T09:00"], ["2026-06-10T13:00", "2026-06-13T09:00"]),
        # A rule that is only a comment is not open.
        ('Mo-Fr 09:00-17:00; Sa "by appointment"', ["2026-06-12T09:00"], ["2026-06-13T09:00"]),
        ('Sa "by appointment"', [], ["2026-06-13T09:00", "2026-06-12T09:00"]),
        ('Mo-Fr 09:00-17:00 || "by appointment"', ["2026-06-12T09:00"], ["2026-06-13T09:00"]),
        ('Mo-Su 09:00-17:00; Sa "by appointment"', ["2026-06-12T09:00"], ["2026-06-13T09:00"]),
        ('Mo-Su 09:00-17:00, Sa "by appointment too"', ["2026-06-13T09:00"], ["2026-06-13T08:00"]),
        ('Sa 09:00-17:00 "by appointment"', ["2026-06-13T09:00"], []),
        ('Mo-Sa 00:00-24:00 "all day"; Su open "too"', ["2026-06-13T09:00", "2026-06-14T09:00"], []),
        ('Mo-Su 09:00-17:00; Sa closed "holiday; a, b"', ["2026-06-12T09:00"], ["2026-06-13T09:00"]),
        # Easter 2026 is 5 April, 2027 28 March.
        ("Mo-Su 09:00-18:00; easter -2 days off", ["2026-04-02T10:00", "2026-04-04T10:00"], ["2026-04-03T10:00"]),
        ("easter +1 day", ["2026-04-06T00:00", "2027-03-29T23:59"], ["2026-04-05T23:59", "2027-03-28T12:00"]),
        ("easter 10:00-12:00", ["2026-04-05T10:00"], ["2026-04-06T10:00"]),
        ("easter +39 days,easter +50 days off", [], ["2026-05-14T10:00"]),
        ("24/7; easter -2 days-easter +1 day off", ["2026-04-02T10:00", "2026-04-07T00:00"], ["2026-04-03T00:00"]),
        ("2027 easter +1 day 10:00-12:00", ["2027-03-29T10:00"], ["2026-04-06T10:00"]),
        ("easter -2 days-easter", ["2026-04-04T10:00", "2026-04-05T23:59"], ["2026-04-06T00:00"]),
        # From easter to a date that is before it in some years: in 2011 it was 24 April.
        ("easter-Apr 20", ["2026-04-20T23:59"], ["2026-04-21T00:00", "2011-04-24T12:00", "2012-01-05T12:00"]),
        ("Dec 25-easter", ["2026-01-01T12:00", "2026-04-05T12:00"], ["2026-04-06T00:00"]),
        # Years without an end.
        ("2026+", ["2026-01-01T00:00", "2099-06-01T12:00"], ["2025-12-31T23:59"]),
        ("2026+ Mo-Fr 09:00-18:00", ["2026-06-12T09:00", "2050-06-10T09:00"], ["2026-06-13T09:00", "2025-06-12T09:00"]),
        ("Mo-Su 09:00-18:00; 2027+ off", ["2026-12-31T09:00"], ["2027-01-01T09:00", "2031-01-01T09:00"]),
        ("2026 Jun 24+ 10:00-12:00", ["2026-06-24T10:00", "2027-01-05T10:00"], ["2026-06-23T10:00"]),
        ("Jun 24+ 10:00-12:00", ["2026-06-24T10:00", "2026-12-31T10:00"], ["2027-01-01T10:00"]),
        # Beyond 24:00, around the clock, and days without end.
        ("Mo 22:00-48:00", ["2026-06-16T23:59"], ["2026-06-17T00:00"]),
        ("Mo 10:00-10:00", ["2026-06-16T09:59"], ["2026-06-16T10:00"]),
        ("24/7; Dec 25 off", ["2026-12-24T23:59", "2026-12-26T00:00"], ["2026-12-25T12:00"]),
        ("Mo-Su 22:00-04:00; Dec 24 off", ["2026-12-24T03:59"], ["2026-12-24T22:00", "2026-12-25T03:00"]),
    ],
)
def test_what_rules_mean(expression: str, opened: list[str], closed: list[str]) -> None:
    """Each of the cases that people meet is read as they mean it."""
    assert opened == [moment for moment in opened if is_open(expression, moment)]
    assert [] == [moment for moment in closed if is_open(expression, moment)]


class Written(NamedTuple):
    """A rule as the reference below reads it."""

    join: str
    text: str
    on: Callable[[date], bool]
    spans: list[tuple[int, int]]
    """Minutes of the day, beyond 1,440 for the next day; none: the whole day."""
    kind: str
    """"open", "off" or "note"."""

    def covers(self, minute: int, day: date) -> bool:
        """Whether the rule, begun on a day, covers a minute since 1970."""
        since = minute - DAY * (day - EPOCH).days
        return any(low <= since < high for low, high in self.spans or [(0, DAY)])


PUBLIC = frozenset(holidays.country_holidays("DE", years=range(2019, 2033)))
DAYS: tuple[tuple[str, Callable[[date], bool]], ...] = (
    ("", lambda _: True),
    ("Mo-Fr ", lambda day: day.weekday() < 5),
    ("Sa,Su ", lambda day: day.weekday() >= 5),
    ("Fr-Mo ", lambda day: day.weekday() in {4, 5, 6, 0}),
    ("We ", lambda day: day.weekday() == 2),
    ("PH ", lambda day: day in PUBLIC),
    ("PH -1 day ", lambda day: day + timedelta(1) in PUBLIC),
    ("Su,PH ", lambda day: day.weekday() == 6 or day in PUBLIC),
    ("Dec 24 ", lambda day: (day.month, day.day) == (12, 24)),
    ("Dec 20-Jan 10 ", lambda day: (day.month, day.day) >= (12, 20) or (day.month, day.day) <= (1, 10)),
    ("Apr-May Sa ", lambda day: day.month in {4, 5} and day.weekday() == 5),
    ("Jan PH,Mo ", lambda day: day.month == 1 and (day in PUBLIC or day.weekday() == 0)),
    ("week 01-53/2 ", lambda day: day.isocalendar().week % 2 == 1),
    ("2026+ ", lambda day: day.year >= 2026),
    ("2027 Mo-Th ", lambda day: day.year == 2027 and day.weekday() < 4),
    ("easter -2 days ", lambda day: day + timedelta(2) == easter((day + timedelta(2)).year)),
    ("easter +1 day ", lambda day: day - timedelta(1) == easter((day - timedelta(1)).year)),
    ("Mo[1] ", lambda day: day.weekday() == 0 and day.day <= 7),
    ("Su[-1] ", lambda day: day.weekday() == 6 and (day + timedelta(7)).month != day.month),
)
WEEKLY = 5
"""The first of DAYS repeat weekly."""


def written(random: Random, join: str, days: tuple[tuple[str, Callable[[date], bool]], ...]) -> Written:
    """Return a random rule, in words and for the reference."""
    text, on = random.choice(days[1:] if join == "," else days)  # ", 10:00-12:00" is one more time of the rule before
    kind = random.choices(["open", "off", "note"], [8, 3, 1 if text else 0])[0]
    spans = []
    for _ in range(0 if kind == "note" else random.choice([0, 1, 1, 1, 2] if kind == "open" else [0, 0, 1])):
        low = random.randrange(0, DAY, random.choice([1, 15, 60]))
        spans.append((low, low + random.choice([1, 30, 60, 480, 600, 900, DAY - 1, DAY])))
    times = ",".join(
        f"{low // 60:02}:{low % 60:02}-" + (f"{high // 60:02}:{high % 60:02}" if random.random() < 0.5 or high <= DAY
                                            else f"{(high - DAY) // 60:02}:{high % 60:02}")
        for low, high in spans
    )  # fmt: skip
    end = {"open": "" if times or text else "24/7", "off": "off", "note": '"call"'}[kind]
    return Written(join, f"{(text + times).strip()} {end}".strip(), on, spans, kind)


def reference(rules: list[Written], minute: int) -> bool:
    """Whether a minute is open: by asking of each span whether a later rule took it away."""
    today = EPOCH + timedelta(days=minute // DAY)

    def replaced(number: int, day: date, *, by: tuple[str, ...]) -> bool:
        return any(rule.join == ";" and rule.kind in by and rule.on(day) for rule in rules[number + 1 :])

    def ended(number: int, day: date) -> bool:
        whole = (rule for rule in rules[number + 1 :] if rule.kind == "off" and not rule.spans and rule.join != "||")
        return replaced(number, day, by=("open", "note")) or any(rule.on(day) for rule in whole)

    def answered(number: int, day: date) -> bool:
        for before in range(number - 1, -1, -1):
            rule = rules[before]
            if rule.on(day) and rule.kind == "note":
                return True
            if rule.on(day) and rule.kind == "open" and rule.join == ";":
                return False
        return False

    def is_cut(number: int) -> bool:
        return any(
            rule.kind == "off" and rule.spans and rule.join != "||" and rule.on(day) and rule.covers(minute, day)
            and not replaced(later, day, by=("open", "note"))
            for later, rule in enumerate(rules) if later > number
            for day in (today - timedelta(2), today - timedelta(1), today)
        )  # fmt: skip

    return any(
        rule.kind == "open" and rule.on(day) and rule.covers(minute, day) and not ended(number, day)
        and not (rule.join == "||" and answered(number, day)) and not is_cut(number)
        for number, rule in enumerate(rules)
        for day in (today - timedelta(2), today - timedelta(1), today)
    )  # fmt: skip


def sample(random: Random, days: tuple[tuple[str, Callable[[date], bool]], ...]) -> tuple[str, list[Written]] | None:
    """Return random hours and their rules, unless they are refused."""
    joins = [";", *random.choices([";", ",", "||"], [6, 3, 1], k=random.choice([0, 1, 2, 2, 3, 4]))]
    rules = [written(random, join, days) for join in joins]
    text = rules[0].text + "".join(f"{'' if rule.join in ';,' else ' '}{rule.join} {rule.text}" for rule in rules[1:])
    return None if refusal(text, "DE") else (text, rules)


@pytest.mark.parametrize("seed", range(6))
def test_random_rules_minute_by_minute(seed: int) -> None:
    """Hours are open just when the reference says, in nights, on holidays, around easter and the turn of the year."""
    random, seen, minutes = Random(seed), 0, 0
    for _ in range(110):
        found = sample(random, DAYS)
        if found is None:
            continue
        text, rules = found
        seen += 1
        begin = DAY * (date(random.choice([2025, 2026, 2027]), random.choice([1, 4, 5, 10, 12]), 1) - EPOCH).days
        begin += DAY * random.randrange(20)
        spans = SchedulePart((text,), "UTC", "DE").spans(60 * begin, 60 * (begin + 14 * DAY), zone_clock("UTC"))
        edges = {edge // 60 + away for span in spans for edge in span for away in (-1, 0)}
        for minute in [*edges, *(begin + random.randrange(14 * DAY) for _ in range(40))]:
            if begin <= minute < begin + 14 * DAY:
                inside = any(start <= 60 * minute < stop for start, stop in spans)
                assert inside == reference(rules, minute), (text, EPOCH + timedelta(minutes=minute), minute % DAY)
                minutes += 1
    assert seen > 100
    assert minutes > 2_000


def test_weeks_equal_spans() -> None:
    """Where all weeks are alike, the spans of the week are those of any week."""
    random, seen = Random(1), 0
    clock = zone_clock("UTC")
    for _ in range(250):
        found = sample(random, DAYS[:WEEKLY])
        if found is None:
            continue
        seen += 1
        part = SchedulePart((found[0],), "UTC")
        week = part.weekly()
        assert week is not None
        monday = second("1973-01-01T00:00") + 7 * 86_400 * random.randrange(6_000)
        spans = part.spans(monday, monday + 7 * 86_400, clock)
        end = WEEK_MINUTES
        assert [((start - monday) // 60, min((stop - monday) // 60, end)) for start, stop in spans] == week, found[0]
        if week == [(0, WEEK_MINUTES)]:
            assert [(monday, NEVER)] == spans
    assert seen > 150


def test_the_normal_form() -> None:
    """Comments are dropped, except where they stand in place of times; the library can parse what it prints."""
    for text, form in (
        ('Mo 10:00-12:00 "a; b"', "Mo 10:00-12:00"),
        ('Mo open "a"', "Mo"),
        ('Mo "a, b"', 'Mo "-"'),
        ('Mo 00:00-24:00 "a"', "Mo"),
        ("PH +1 day off", "PH +1 days closed"),
        ('24/7 "a" || "b"', '24/7 || 24/7 "-"'),
    ):
        assert form == normal_form(text)
        assert OpeningHours(form)


def test_hours_are_parsed_once() -> None:
    """Equal hours, and equal rules of different hours, are one object."""
    one, other = hours_of("Mo 10:00-12:00; PH off"), hours_of("Tu 10:00-12:00; PH off")
    assert one is hours_of("Mo 10:00-12:00; PH off")
    assert one.rules[1] is other.rules[1]
