"""Public holidays that the opening-hours library does not know: hours with dates in place of PH.

The library knows the holidays of some countries, but not those of regions. All others come from the holidays package:
each rule of the hours gets the dates in place of its PH, and holds on the same days as before.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise

import opening_hours
from opening_hours import OpeningHours

from offers.catalogue.hours.sun import without_comments

_SELECTOR = r"(?:PH(?: [+-]\d+ days)?|(?:Mo|Tu|We|Th|Fr|Sa|Su)(?:-[A-Z][a-z])?(?:\[[^]]*\])?(?: [+-]\d+ days?)?)"
_DAYS = re.compile(rf"(?<![^ ]){_SELECTOR}(?:,{_SELECTOR})*(?![^ ])")
"""The weekdays and holidays of a rule, as the library prints it."""
_PARTS = re.compile(r"[^,[]+(?:\[[^]]*\][^,]*)?")
_RULES = re.compile(r"(; |, )")
_NEVER = "1900 Jan 1"
"""A date outside every range of years."""
_SOME_YEARS = range(2000, 2077)


@cache
def in_library(country_code: str) -> bool:
    """Return whether the opening-hours library knows the public holidays of a code; it knows countries only."""
    try:
        OpeningHours("off", country=country_code or None)
    except opening_hours.UnknownCountryError:  # type: ignore[attr-defined] # its stubs lack it
        return False
    return True


@cache
def are_known(country_code: str) -> bool:
    """Return whether any public holidays are known for a country (ISO 3166-1) or region (ISO 3166-2)."""
    return in_library(country_code) or any(holidays_of(country_code, year) for year in _SOME_YEARS)


@cache
def regions_of(country: str) -> list[str]:
    """Return the regions of a country whose public holidays are known, as codes of ISO 3166-2."""
    import holidays

    known = holidays.list_supported_countries(include_aliases=False).get(country, ())
    return sorted(f"{country}-{region}" for region in known if re.fullmatch("[A-Z0-9]{1,3}", region))


@lru_cache(maxsize=65_536)
def holidays_of(country_code: str, year: int) -> frozenset[date]:
    """Return the public holidays of a region or country in a year and their substitute days; none if it is unknown.

    The first call takes most of a second.
    """
    import holidays

    country, _, region = country_code.partition("-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about lunar holidays, whose future dates are estimates
        try:
            return frozenset(holidays.country_holidays(country, region or None, years=year, expand=False))
        except NotImplementedError:
            return frozenset()


def dated(expression: str, country_code: str, first_year: int, last_year: int) -> str:
    """Return hours with dates in place of PH, equivalent from the first year to the last, both included.

    Comments are left out. Raises the library's ParserError for hours it cannot parse.
    """
    days = range(date(first_year, 1, 1).toordinal(), date(last_year, 12, 31).toordinal() + 1)
    rules = _RULES.split(without_comments(expression))
    rules[::2] = [_with_dates(rule, country_code, days) for rule in rules[::2]]
    return "".join(rules)


def _with_dates(rule: str, country_code: str, days: range) -> str:
    """Return a rule with the dates of its days in place of its weekdays and holidays, if it names PH."""
    found = _DAYS.search(rule)
    if found is None or "PH" not in found.group():
        return rule
    kept, held = [], set[int]()
    for part in _PARTS.findall(found.group()):
        if part.startswith("PH"):
            held |= _holidays_in(days, country_code, int(part.split()[1]) if " " in part else 0)
        else:
            kept.append(part)
    wide = rule[: found.start()]
    if kept:
        held |= _days_of(f"{wide}{','.join(kept)}", days)
    if wide:
        held &= _days_of(wide.rstrip(), days)
    return ",".join(_dates(held)) + rule[found.end() :]


def _holidays_in(days: range, country_code: str, days_on: int) -> set[int]:
    """Return the days, as ordinals, that are `days_on` days after a public holiday."""
    first, last = (date.fromordinal(day - days_on).year for day in (days[0], days[-1]))
    found = (day.toordinal() + days_on for year in range(first, last + 1) for day in holidays_of(country_code, year))
    return {day for day in found if day in days}


def _days_of(selectors: str, days: range) -> set[int]:
    """Return the days, as ordinals, on which a rule without times holds."""
    begin = datetime.fromordinal(days[0])
    hours = OpeningHours(f"{selectors} 00:00-24:00")
    return {
        day
        for start, end, state, _ in hours.intervals(begin, begin + timedelta(days=len(days)))
        if state == opening_hours.State.OPEN
        for day in range(start.toordinal(), end.toordinal())
    }


def _dates(held: Iterable[int]) -> Iterator[str]:
    """Yield days as dates of the grammar, consecutive days as ranges."""
    ordered = sorted(held)
    if not ordered:
        yield _NEVER
        return
    breaks = [place for place, (one, other) in enumerate(pairwise(ordered), 1) if other > one + 1]
    for first, end in pairwise([0, *breaks, len(ordered)]):
        begin, last = date.fromordinal(ordered[first]), date.fromordinal(ordered[end - 1])
        yield _written(begin) if begin == last else f"{_written(begin)}-{_written(last)}"


def _written(day: date) -> str:
    return f"{day.year} {_MONTHS[day.month - 1]} {day.day}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
