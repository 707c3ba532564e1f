"""Opening hours at instants: tables, rules and a walk over minutes agree, across every kind of clock change."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from opening_hours import OpeningHours

from offers.catalogue.compile.timetable import schedule_columns
from offers.catalogue.hours.schedules import LAST_SECOND, NEVER, Schedule, SchedulePart, ZoneClock, zone_clock
from offers.catalogue.snapshot import COLUMNS
from offers.decision import hours as hours_module
from offers.decision.hours import INSTANTS_KEPT, HoursBook
from offers.decision.kernels.memory.records import CLOSED, OPEN, UNKNOWN, Column, Record

CHANGES = (
    ("Europe/Paris", "2026-03-29T01:00", "forward at night"),
    ("Europe/Paris", "2026-10-25T01:00", "back at night"),
    ("America/New_York", "2026-03-08T07:00", "forward at night"),
    ("America/New_York", "2026-11-01T06:00", "back at night"),
    ("Australia/Lord_Howe", "2026-04-04T15:00", "back by half an hour"),
    ("Australia/Lord_Howe", "2026-10-03T15:30", "forward by half an hour"),
    ("Africa/Casablanca", "2026-02-15T02:00", "Ramadan begins"),
    ("Africa/Casablanca", "2026-03-22T02:00", "Ramadan ends"),
    ("Asia/Kathmandu", "1985-12-31T18:30", "forward by a quarter of an hour"),
    ("Pacific/Apia", "2011-12-30T10:00", "a day that is not"),
    ("America/Sao_Paulo", "2018-11-04T03:00", "midnight that is not"),
    ("America/Sao_Paulo", "2019-02-17T02:00", "midnight twice"),
    ("Africa/Monrovia", "1972-01-07T00:45", "seconds given up"),
    ("America/New_York", "1970-01-01T12:00", "the first hours of all"),
)
RULES = (
    "24/7",
    "Mo-Su 00:00-24:00",
    "off",
    "Mo-Su 02:15-02:45",
    "Mo-Su 00:00-00:30",
    "Sa-Mo 22:00-26:00",
    "Mo-Fr 09:00-12:00,13:00-18:00",
    "Su 00:00-02:30; Mo 23:00-24:00",
    "Mo-Su 02:00-03:00,03:00-04:00",
    "Mo-Su 00:00-24:00; Su 01:00-02:00 off",
    "Mo-Su 18:00-24:00; Dec 31 off",
    "Jan 01 00:00-24:00",
    "Dec 30 10:00-14:00",
    "Mar 29 02:30-03:30",
    'Mo-Su 00:00-12:00 "a", 12:00-24:00 "b"; Dec 31 off',
)
WEEKLY = 10
"""The first of RULES repeat weekly."""


def seconds(text: str) -> int:
    """Return the instant of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def wall(second: int, zone: ZoneInfo) -> datetime:
    """Return the reading of a wall clock in a zone."""
    return datetime.fromtimestamp(second, zone).replace(tzinfo=None)


def simple(rule: str, zone: str) -> Schedule:
    """Return a schedule of one rule."""
    return Schedule((SchedulePart((rule,), zone),))


def book_of(schedules: list[Schedule]) -> HoursBook:
    """Return the book of schedules that a snapshot would have."""
    names = ["", *sorted({part.time_zone for schedule in schedules for part in schedule.parts} - {""})]
    parts = schedule_columns(schedules, names)
    columns = {name: np.array(parts.get(name, []), kind) for name, kind in COLUMNS.items()}
    return HoursBook(Record(Column, columns), schedules, names, "UTC")


def test_rules_repeat_weekly_as_far_as_they_do() -> None:
    """Rules without dates, holidays and week numbers are recognised as weekly."""
    known = [simple(rule, "UTC").weekly() is not None for rule in RULES]
    assert [True] * WEEKLY + [False] * (len(RULES) - WEEKLY) == known


@pytest.mark.parametrize(("zone", "around", "what"), CHANGES)
def test_states_equal_a_walk_over_minutes(zone: str, around: str, what: str) -> None:
    """At every minute two days around a clock change, the state is the wall clock's; the end is when it changes."""
    del what
    middle = seconds(around)
    first, last = max(middle - 2 * 86_400, 0), middle + 2 * 86_400
    clock, here = zone_clock(zone), ZoneInfo(zone)
    schedules = [simple(rule, zone) for rule in RULES] + [simple(rule, "") for rule in RULES]
    book = book_of(schedules)
    minutes = range(first, last, 30 if zone == "Africa/Monrovia" else 60)
    walls = [wall(second, here) for second in minutes]
    for number, rule in enumerate(RULES):
        rules = OpeningHours(rule)
        walk = [rules.is_open(moment) for moment in walls]
        for index in (number, number + len(RULES)):
            for place in range(0, len(walk), 67):
                second = minutes[place]
                hours = book.at(second, zone).record
                if hours.arrays["state"][index] == UNKNOWN:
                    book.look_up(hours, [index], second, zone)
                state, until = int(hours.arrays["state"][index]), int(hours.arrays["until"][index])
                assert (OPEN if walk[place] else CLOSED) == state
                assert (walk[place], until) == schedules[number].at(second, lambda _: clock)
                stays = walk[place:].index(not walk[place]) if (not walk[place]) in walk[place:] else None
                if stays is None:
                    assert until > minutes[-1] or not walk[place]
                elif walk[place]:
                    assert minutes[place + stays] == until
                else:
                    assert second < until <= minutes[place + stays]


def test_states_between_minutes_before_1972() -> None:
    """While Monrovia's clock was off by 44 minutes and 30 seconds, hours began in the middle of a UTC minute."""
    schedule = simple("Mo-Su 10:00-11:00", "Africa/Monrovia")
    book = book_of([schedule])
    opens = seconds("1971-06-01T10:44:30")
    states = [
        int(book.at(second, "").record.arrays["state"][0]) for second in (opens - 1, opens, opens + 3599, opens + 3600)
    ]
    assert [CLOSED, OPEN, OPEN, CLOSED] == states
    assert opens + 3600 == int(book.at(opens, "").record.arrays["until"][0])


def test_states_in_the_minute_monrovia_changed() -> None:
    """Monrovia's clock jumped from midnight to 00:44:30 in the middle of a UTC minute, and hours with it."""
    book = book_of([simple("Mo-Su 00:44-00:46", "Africa/Monrovia")])
    jump = seconds("1972-01-07T00:44:30")
    states = [int(book.at(jump + away, "").record.arrays["state"][0]) for away in (-1, 0, 1, 29, 30, 89, 90)]
    assert [CLOSED, OPEN, OPEN, OPEN, OPEN, OPEN, CLOSED] == states


def test_open_until_the_last_instant() -> None:
    """In the last second that can be asked for, hours still have a state and an end after it."""
    schedules = [simple(rule, "Europe/Paris") for rule in RULES]
    book = book_of(schedules)
    hours = book.at(LAST_SECOND - 1, "").record
    book.look_up(hours, range(WEEKLY, len(RULES)), LAST_SECOND - 1, "")
    rules = [OpeningHours(rule) for rule in RULES]
    last = wall(LAST_SECOND - 1, ZoneInfo("Europe/Paris"))
    wanted = [OPEN if one.is_open(last) else CLOSED for one in rules]
    assert wanted == hours.arrays["state"].tolist()
    assert all(LAST_SECOND - 1 < until <= NEVER for until in hours.arrays["until"].tolist())


def test_person_decides_the_clock_of_hours_without_one() -> None:
    """Hours without a place are read by the person's clock, and without one by the catalogue's."""
    book = book_of([simple("Mo-Su 09:00-10:00", "")])
    second = seconds("2026-06-15T07:30")
    assert [OPEN, CLOSED] == [int(book.at(second, zone).record.arrays["state"][0]) for zone in ("Europe/Paris", "")]


def test_book_keeps_a_bounded_number_of_minutes() -> None:
    """Hypothetical requests for ever more instants do not fill the memory, and old answers stay the same."""
    book = book_of([simple("Mo-Su 09:00-10:00", "")])
    first = book.at(0, "Europe/Paris").record
    for minute in range(3 * INSTANTS_KEPT):
        book.at(minute * 60, "UTC")
    again = book.at(0, "Europe/Paris").record
    assert again is not first
    assert first.arrays["until"].tolist() == again.arrays["until"].tolist()


MARGINS = (0, 1, 90, 1_800, 3_600, 86_400)
PLACE = (48.8566, 2.3522)


def random_schedule(random: Random, zones: list[str]) -> Schedule:
    """Return a schedule of some parts, each by a clock of its own, with or without a margin."""
    weekly = random.random() < 0.5
    parts = [
        SchedulePart(
            tuple(random.sample(RULES[:WEEKLY] if weekly else (*RULES, "sunrise-sunset"), random.choice([1, 1, 2]))),
            random.choice(zones),
            "",
            () if weekly else PLACE,
            random.choice(MARGINS),
        )
        for _ in range(random.choice([1, 1, 2, 3]))
    ]
    return Schedule(tuple(parts))


@pytest.mark.parametrize(("zone", "around", "what"), CHANGES)
def test_states_of_parts_and_margins(zone: str, around: str, what: str) -> None:
    """Whatever its parts, clocks and margins, a schedule's state is that worked out part by part, as is its end.

    Also in the horizon, and for ever as it says: no state changes before its span is over.
    """
    del what
    random = Random(around)
    zones = [zone, "Europe/Paris", "Asia/Kathmandu", ""]
    schedules = [random_schedule(random, zones) for _ in range(25)]
    book, middle = book_of(schedules), seconds(around)
    for second in sorted(random.randrange(max(middle - 90_000, 0), middle + 90_000) for _ in range(8)):
        if random.random() < 0.3:
            while not book.roll(second):
                pass
        hours, begin, end, _ = book.at(second, zone)
        assert begin <= second < end
        unknown = np.flatnonzero(hours.arrays["state"] == UNKNOWN).tolist()
        book.look_up(hours, unknown, second, zone)
        for number, schedule in enumerate(schedules):
            for moment in (begin, second, end - 1):
                is_open, until = schedule.at(moment, lambda name: zone_clock(name or zone))
                assert (OPEN if is_open else CLOSED) == hours.arrays["state"][number]
                assert until == hours.arrays["until"][number] if is_open else begin < hours.arrays["until"][number]


def test_a_margin_of_seconds_ends_within_a_minute() -> None:
    """A closing margin that is not of whole minutes changes states in the middle of one, and only there."""
    book = book_of([Schedule((SchedulePart(("Mo-Su 09:00-10:00",), "UTC", closing_margin=90),))])
    closes = seconds("2026-06-15T09:58:30")
    assert [OPEN, CLOSED] == [int(book.at(closes + away, "").record.arrays["state"][0]) for away in (-1, 0)]
    assert (closes - 30, closes) == book.at(closes - 1, "")[1:3]
    assert (closes, closes + 30) == book.at(closes, "")[1:3]
    assert closes == int(book.at(closes - 1_800, "").record.arrays["until"][0])


def test_horizon_needs_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """For five weeks ahead schedules with holidays and dates are known without reading rules; then they are read."""
    now = seconds("2026-11-22T02:40")
    holidays = Schedule((SchedulePart(("Mo-Fr 09:00-17:00; PH off; Dec 24 09:00-12:00",), "Europe/Paris", "FR"),))
    closing = Schedule((SchedulePart(("Nov 24-Feb 28",), "Europe/Paris", closing_margin=3_600),))
    book = book_of([holidays, simple("Mo-Su 09:00-10:00", "UTC"), closing, simple("Mo 09:00-10:00; PH off", "")])
    assert not book.roll(now)  # the first days at first
    while not book.roll(now, 0.0):
        pass
    wanted = {
        second: [one.at(second, zone_clock) for one in (holidays, closing)]
        for second in range(now - 86_400, now + 35 * 86_400, 6_000)
    }
    monkeypatch.setattr(SchedulePart, "_wall_spans", None)
    for second, states in wanted.items():
        hours = book.at(second, "").record.arrays
        assert UNKNOWN == hours["state"][3]  # by the person's clock
        for number, (is_open, until) in zip((0, 2), states, strict=True):
            assert (OPEN if is_open else CLOSED) == hours["state"][number]
            assert until == hours["until"][number] if is_open else second < hours["until"][number] <= max(until, NEVER)
    assert UNKNOWN == book.at(now + 40 * 86_400, "").record.arrays["state"][0]
    assert UNKNOWN == book.at(now - 3 * 86_400, "").record.arrays["state"][0]


def test_horizon_rolls() -> None:
    """As days go by the horizon moves along, by slices of work, and the old one serves until the next is done."""
    schedules = [simple(f"Mo-Fr 09:00-17:{minute:02}; Dec 31 off", "Europe/Paris") for minute in range(40)]
    book, now = book_of(schedules), seconds("2026-11-22T12:00")
    slices = 1
    while not book.roll(now, 0.0):
        slices += 1
    assert 2 * len(schedules) <= slices <= 2 * len(schedules) + 2
    assert book.roll(now + 3_600)
    later = now + 20 * 86_400
    assert not book.roll(later, 0.0)
    assert UNKNOWN not in book.at(later, "").record.arrays["state"]
    while not book.roll(later, 0.0):
        pass
    assert UNKNOWN not in book.at(later + 34 * 86_400, "").record.arrays["state"]
    assert UNKNOWN in book.at(now, "").record.arrays["state"]


def test_horizon_keeps_to_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules that no longer fit into the horizon are worked out when asked."""
    monkeypatch.setattr(hours_module, "CHANGES_KEPT", 100)
    book, now = book_of([simple(f"Mo-Su 09:00-17:0{n}; Dec 31 off", "UTC") for n in range(4)]), seconds("2026-11-22")
    while not book.roll(now):
        pass
    assert [CLOSED, UNKNOWN, UNKNOWN, UNKNOWN] == book.at(now, "").record.arrays["state"].tolist()


def test_intersections_end_with_the_first_to_close() -> None:
    """Hours of two rules are open while both are, weekly or not."""
    for rules in (("Mo-Su 09:00-17:00", "Mo 08:00-12:00"), ("Mo-Su 09:00-17:00; Jan 01 off", "Mo 08:00-12:00")):
        schedule = Schedule(tuple(SchedulePart((rule,), "UTC") for rule in rules))
        day = datetime(2026, 6, 15, tzinfo=UTC)
        states = [schedule.at(int((day + timedelta(hours=hour)).timestamp()), zone_clock)[0] for hour in range(24)]
        assert [9, 10, 11] == [hour for hour, state in enumerate(states) if state]
        assert (True, int((day + timedelta(hours=12)).timestamp())) == schedule.at(
            int((day + timedelta(hours=9)).timestamp()), zone_clock
        )


def test_clock_spans_follow_each_other() -> None:
    """The spans of a clock are in order, and no two beside each other have the same offset."""
    for zone in {zone for zone, _, _ in CHANGES}:
        clock = zone_clock(zone)
        assert all(before < after for before, after in pairwise(clock.starts))
        assert all(before != after for before, after in pairwise(clock.offsets))


def test_states_looked_up_lately_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other instants of a span that was looked up cost no more work, and every state is as if it were looked up."""
    schedule = simple("Apr 03-Sep 20 10:00-18:00; easter off", "Europe/Paris")
    book, begin = book_of([schedule]), seconds("2031-04-01T00:00")
    asked: list[int] = []
    at = Schedule.at

    def counted(one: Schedule, second: int, clock_of: Callable[[str], ZoneClock]) -> tuple[bool, int]:
        asked.append(second)
        return at(one, second, clock_of)

    monkeypatch.setattr(Schedule, "at", counted)

    for instant in (*range(begin, begin + 20 * 86_400, 7_200), *range(begin, begin + 20 * 86_400, 5_400)):
        hours = book.at(instant, "").record
        book.look_up(hours, [0], instant, "")
        assert schedule_at(at, schedule, instant) == (hours.arrays["state"][0] == OPEN, hours.arrays["until"][0])

    assert len(asked) < 20 * 12


def schedule_at(at: Callable[..., tuple[bool, int]], schedule: Schedule, second: int) -> tuple[bool, int]:
    """Return the state of a schedule in Paris, worked out anew."""
    return at(schedule, second, lambda zone: zone_clock(zone or "Europe/Paris"))
