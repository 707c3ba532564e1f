"""Validation of opening hours: the supported part of the grammar, and reasons for refusing the rest."""

import re
from collections.abc import Iterator
from itertools import chain

import opening_hours
from opening_hours import OpeningHours

from offers.catalogue.hours.public_holidays import are_known, regions_of
from offers.catalogue.hours.rules import hours_of
from offers.catalogue.hours.sun import COMMENT, names_sun

_WORD = re.compile(r"[A-Za-z]+")
_WORDS = {
    "sh": "school holidays are not known: write their dates, such as 'Jul 05-Aug 31'",
    "unknown": "an offer is shown or it is not: write the open times, or 'off'",
}
"""Words of the grammar that are not supported, and what to write instead."""
_DAY = "(?:Mo|Tu|We|Th|Fr|Sa|Su)"
_DAYS_ON = r"(?: *[+-] *\d+ *days?)?"
_FORMS = (
    (
        re.compile(r"(?::\d\d|\))\+|(?:sunrise|sunset|dawn|dusk)\+(?!\d)", re.IGNORECASE),
        "the end left open",
        "write the end, such as 18:00-24:00",
    ),
    (
        re.compile(r"(?:(?<=:\d\d)|(?<=[a-z)]))/(?=\d)", re.IGNORECASE),
        "'/' (points in time)",
        "write spans, such as 10:00-10:30,11:30-12:00",
    ),
    (
        re.compile(rf"\b(?=PH{_DAYS_ON} +{_DAY}\b|{_DAY}(?:\[[^]]*\])?{_DAYS_ON} +PH\b).", re.IGNORECASE),
        "holidays beside weekdays",
        "put a comma between them for days that are either, as in 'Mo-Fr,PH'",
    ),
    (
        re.compile(r'(?:^|[;,])\s*"'),
        "a comment without times",
        "write the open times before it, or leave it out",
    ),
)
"""Forms that say too little, or that the library misreads: pattern, name, and what to write instead."""
_DATES = re.compile(
    r"\b(?:Feb (?:30|31)|(?:Apr|Jun|Sep|Nov) 31)\b|\b[A-Z][a-z]{2} (?P<first>\d{2})-(?P<last>\d{1,2})\b(?!:)",
    re.IGNORECASE,
)
"""A date that does not exist, or a range of days of a month."""
_WEEKS = re.compile(r"\bweek *(?P<first>\d{1,2})-(?P<last>\d{1,2})/(?P<step>\d+)", re.IGNORECASE)

Refusal = tuple[str, str]
"""The reason why hours cannot be used, with the position, and what to write instead."""


def refusal(expression: str, country_code: str, *, placed: bool = True) -> Refusal | None:
    """Return why opening hours cannot be used and what to write instead, or None.

    `country_code` is the country (ISO 3166-1) or region (ISO 3166-2) whose public holidays `PH` means, or "". With
    `placed`, the hours are those of a place, so that the sun rises and sets.
    """
    if not expression.strip():
        return "the hours are empty", "leave the field out for no limit, or write hours such as 'Mo-Fr 11:30-14:30'"
    bare = _bare(expression)
    for found in _WORD.finditer(bare):
        if fix := _WORDS.get(found.group().lower()):
            return f"'{found.group()}' at position {found.start() + 1} cannot be used", fix
    if unread := _unread(expression):
        return unread
    refusals = (
        _misread_forms(bare),
        _rule_refusals(expression),
        _holiday_refusals(expression, country_code),
        _sun_refusals(expression, placed=placed),
    )
    return next(chain.from_iterable(refusals), None)


def _unread(expression: str) -> Refusal | None:
    """Return why the library cannot parse hours, or None."""
    try:
        OpeningHours(expression)
    except opening_hours.ParserError as error:  # type: ignore[attr-defined] # its stubs lack it
        return _syntax(expression, str(error))
    return None


def _rule_refusals(expression: str) -> Iterator[Refusal]:
    """Try all rules on a day, as each names its days in its own way."""
    try:
        hours_of(expression).plan("", 0, 1)
    except (ValueError, opening_hours.ParserError):  # type: ignore[attr-defined] # its stubs lack it
        yield "holds a rule whose days and times cannot be told apart", "write one rule for each, separated by ';'"


def names_holidays(expression: str) -> bool:
    """Return whether hours name public holidays (PH) and so depend on a country."""
    return "PH" in expression and "PH" in _WORD.findall(_bare(expression))


def _bare(expression: str) -> str:
    """Return hours with their comments blanked, so that positions stay the same."""
    return COMMENT.sub(lambda comment: f'"{" " * (len(comment.group()) - 2)}"', expression)


def _syntax(expression: str, message: str) -> Refusal:
    """Convert the parser's message ("--> 1:7 ... = expected ...") into a reason with the position."""
    place = re.search(r"--> \d+:(\d+)", message)
    position = int(place.group(1)) if place else 1
    wanted = re.search(r"= expected (.*)", message)
    found = expression[position - 1 : position + 11] or "the end"
    hint = f" (expected {wanted.group(1).replace('_', ' ')})" if wanted else ""
    return (
        f"not in the opening_hours grammar at position {position}, near '{found}'{hint}",
        "write hours such as 'Mo-Fr 11:30-14:30; PH off'",
    )


def _misread_forms(bare: str) -> Iterator[Refusal]:
    for form, name, fix in _FORMS:
        if unusable := form.search(bare):
            yield f"{name} at position {unusable.end()} cannot be used", fix
    for found in _DATES.finditer(bare):
        if found["first"] is None or int(found["last"]) < int(found["first"]):
            reason = f"'{found.group()}' at position {found.start() + 1} is not in the calendar"
            yield reason, "write dates that exist, the earlier one first, such as 'Jun 24-30'"
    for found in _WEEKS.finditer(bare):
        if not 1 < int(found["step"]) <= int(found["last"]) - int(found["first"]):
            position = found.start("step") + 1
            reason = f"the step {found['step']} at position {position} leaves out no week, or all but one"
            yield reason, "leave it out, or write 2 for every other week"


def _holiday_refusals(expression: str, country_code: str) -> Iterator[Refusal]:
    if not names_holidays(expression):
        return
    if not country_code:
        yield "PH (public holidays) needs a country", "set country_code on the catalogue, the venue or the hours"
        return
    if are_known(country_code):
        return
    country, _, region = country_code.partition("-")
    kind, fix = (
        ("region", _regions_fix(country)) if region else ("country", "leave PH out, or correct the country_code")
    )
    yield f"no public holidays are known for {kind} '{country_code}'", fix


def _regions_fix(country: str) -> str:
    codes = [*([country] if are_known(country) else []), *regions_of(country)]
    return f"leave PH out, or write one of {', '.join(codes)}" if codes else "leave PH out, or correct the country_code"


def _sun_refusals(expression: str, *, placed: bool) -> Iterator[Refusal]:
    found = names_sun(expression)
    if found is None:
        return
    named = f"'{found.group()}' at position {found.start() + 1}"
    if not placed:
        fix = "write times of day such as 07:30, or where the offer is shown"
        yield f"{named} needs a place, and the offer is shown everywhere", fix
