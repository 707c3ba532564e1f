"""Hours that opening_hours.js, the reference library, reads differently from here, with an example."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from itertools import islice, pairwise

from offers.catalogue.hours.days import EPOCH_WEEKDAY, Selector, days_of
from offers.catalogue.hours.rules import COMMENT_BESIDE, DAY_S, WEEK_DAYS, Hours, Rule, hours_of, normal_form

_DAY_MINUTES = 1_440
_WHOLE_DAY = (1 << _DAY_MINUTES) - 1
_SOME_DAYS = 3 * 366
"""Days in which an example is looked for."""
_MOST_TRIED = 30
"""Most of those days that are compared for each two rules."""
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ONLY_EXPLAINED = ("open", "off", "closed")
_PLACE = (0.0, 0.0)
"""A place for the sun: it rises at about 6:00 and sets at about 18:00."""


@lru_cache(maxsize=4_096)
def difference(expression: str, country_code: str, year: int = 0) -> str:
    """Return how opening_hours.js reads hours differently, or "". The hours must not be refused.

    `country_code` is the country or region of the public holidays. An example is looked for from the begin of `year`
    on; 0: of this year.
    """
    if not expression:
        return ""
    if any((found.group(1) or "open").lower() not in _ONLY_EXPLAINED for found in COMMENT_BESIDE.finditer(expression)):
        return "hours with a comment are open; opening_hours.js calls them unknown: write 'open' before the comment"
    if re.search(r"-(?:\d{4} )?easter", normal_form(expression)):
        return "a range up to easter includes that day; opening_hours.js leaves it out: write it as two rules"
    hours = hours_of(expression)
    if len(hours.rules) < 2:
        return ""
    for rule, following in pairwise(hours.rules):
        if following.join == "," and following.days.weekdays and rule.is_open and rule.days.weekdays and not rule.spans:
            days = rule.days.weekdays
            return f"on {days} it is open all day; opening_hours.js reads the times after ', ': leave out the space"
    first = date(year or date.today().year, 1, 1).toordinal() - date(1970, 1, 1).toordinal()  # noqa: DTZ011
    for day in _doubtful(hours, country_code, first):
        ours, theirs = _ours(hours, country_code, day), _theirs(hours, country_code, day)
        if ours != theirs:
            return _example(hours, day, ours, ours ^ theirs)
    return ""


def _doubtful(hours: Hours, country_code: str, first: int) -> Iterator[int]:
    """Yield days on which two rules can be read differently: nights before another rule, and rules for every day."""
    masks = [days_of(rule.days, country_code, first, _SOME_DAYS) for rule in hours.rules]
    for number, (rule, days) in enumerate(zip(hours.rules, masks, strict=True)):
        if number and rule.days == Selector():
            yield from islice(_numbers(days, first), _MOST_TRIED)
        if any(span.is_overnight or span.end.minute > _DAY_MINUTES for span in rule.spans):
            for other in masks[number + 1 :]:
                yield from islice(_numbers(days << 1 & (other | other << 1), first), _MOST_TRIED)


def _numbers(days: int, first: int) -> Iterator[int]:
    """Yield days given as bits; bit 0 is the day `first`."""
    while days:
        bit = days & -days
        days ^= bit
        yield first + bit.bit_length() - 1


def _ours(hours: Hours, country_code: str, day: int) -> int:
    """Return the open minutes of a day, as bits."""
    return _minutes(hours.open_spans(day * DAY_S, (day + 1) * DAY_S, country_code, _PLACE, lambda _: 0), day)


def _theirs(hours: Hours, country_code: str, day: int) -> int:
    """Return the minutes of a day that are open by opening_hours.js, as bits.

    It treats the part of a span after midnight as a rule of its own for the next day, which a later rule for that day
    overrides. A rule without days overrides only others without days.
    """
    matching: list[tuple[Rule, int]] = []
    for number, rule in enumerate(hours.rules):
        today, yesterday = (days_of(rule.days, country_code, one, 1) for one in (day, day - 1))
        if today:
            is_wider = number == 0 or hours.rules[number - 1].days != Selector()
            overrides = rule.days != Selector() or not is_wider
            if rule.join == ";" and (rule.is_open or rule.is_note) and overrides:
                matching.clear()
            matching.append((rule, day))
        if yesterday and rule.spans:
            matching.append((rule, day - 1))
    found = 0
    for rule, begun in matching:
        if rule.join == "||" and rule.is_note:
            break
        minutes = _minutes(rule.on(begun, _PLACE, lambda _: 0), day)
        if rule.is_open:
            found |= minutes
        elif rule.join != "||":
            found &= ~minutes
    return found


def _minutes(spans: Iterator[tuple[int, int]], day: int) -> int:
    found = 0
    for start, stop in spans:
        low, high = (min(max(second // 60 - day * _DAY_MINUTES, 0), _DAY_MINUTES) for second in (start, stop))
        if low < high:
            found |= (1 << high) - (1 << low)
    return found & _WHOLE_DAY


def _example(hours: Hours, day: int, ours: int, differing: int) -> str:
    """Describe the first minutes of a day that are read differently."""
    low = (differing & -differing).bit_length() - 1
    is_open = ours >> low & 1
    run = differing >> low & (ours >> low if is_open else ~(ours >> low))
    high = low + (~run & (run + 1)).bit_length() - 1
    weekday = (day + EPOCH_WEEKDAY) % WEEK_DAYS
    named = f"on {_WEEKDAYS[weekday]}"
    if not hours.repeats_weekly:
        named = f"on {date(1970, 1, 1) + timedelta(days=day)}"
    ours_is, theirs_is = ("open", "closed") if is_open else ("closed", "open")
    return f"{named} from {_clock(low)} to {_clock(high)} it is {ours_is}; opening_hours.js reads {theirs_is}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
