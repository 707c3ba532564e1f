"""Rules for values in any message: ids, texts, codes, shares, durations, windows, money."""

import difflib
import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from typing import Any
from zoneinfo import available_timezones

from google.protobuf.duration_pb2 import Duration
from google.type.interval_pb2 import Interval
from google.type.money_pb2 import Money

from offers.catalogue.document.nodes import Path
from offers.catalogue.document.scalars import cut
from offers.catalogue.hours.schedules import FIRST_SECOND, LAST_SECOND
from offers.catalogue.rules.faults import Fault, Faults
from offers.model.currencies import CURRENCIES, fraction_fault
from offers.model.instants import DAY_S

is_catalog_id = re.compile(r"[A-Za-z0-9._:-]{1,64}").fullmatch
is_id = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
is_currency = CURRENCIES.__contains__
_OFTEN_MEANT = {"UK": "GB", "EL": "GR"}
"""Codes of countries that are in use elsewhere, and those of ISO 3166-1."""
_COUNTRY = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?").fullmatch
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_CONTROL_BUT_SPACE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]").search
_UNSEEN = re.compile("[\u180e\u2028\u2029\u2061-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0001]").search
"""Finds invisible characters that no text needs. Joiners, soft hyphens, zero-width spaces and direction marks are left
to the scripts and emoji that need them."""
_EMBEDDING = re.compile("[\u202a-\u202e]").search
_BLANK = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
_ISOLATES, _POP_ISOLATE = "\u2066\u2067\u2068", "\u2069"


@cache
def time_zones() -> frozenset[str]:
    """Return the IANA names of time zones, without `localtime` and `Factory`, which depend on the machine."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


def check_share(number: float, path: Path, faults: Faults) -> None:
    """Check a number over 0 and at most 1."""
    if not 0 < number <= 1:
        fix = "write a number over 0 and at most 1, such as 0.5"
        faults.append(Fault(path, f"{number:.12g} is not over 0 and at most 1", fix))


def check_id(text: str, path: Path, faults: Faults) -> None:
    """Check an id."""
    if not is_id(text):
        faults.append(bad_id(path, text, 128))


def bad_id(path: Path, text: str, most: int) -> Fault:
    """Return the fault of a text that is no id of at most `most` characters."""
    reason = f"'{cut(text)}' is not an id" if text else "missing"
    return Fault(path, reason, f"write 1 to {most} characters of A-Z a-z 0-9 . _ : -")


def check_new_id(text: str, known: set[str], path: Path, faults: Faults) -> None:
    """Check an id and that it is not in `known`, the ids before it in a list, and add it there."""
    check_id(text, path, faults)
    if text in known:
        faults.append(Fault(path, f"'{text}' is given twice", "give each its own id, or remove one"))
    known.add(text)


def check_enum(number: int, kind: Any, path: Path, faults: Faults) -> None:  # noqa: ANN401 - enums share no type
    """Check that a number is a value of an enum."""
    if number not in kind.values():
        faults.append(Fault(path, f"{number} is not a {kind.DESCRIPTOR.name}", one_of(kind)))


def one_of(kind: Any) -> str:  # noqa: ANN401 - enums share no type
    """Return a fix that lists the values of an enum."""
    return f"write one of {', '.join(kind.keys()[1:])}"


def check_text(text: str, most: int, path: Path, faults: Faults) -> None:
    """Check a text that must not be blank."""
    if not text.strip() or all(unicodedata.category(one) in _BLANK for one in text):
        faults.append(Fault(path, "is blank" if text else "missing", f"write 1 to {most} characters"))
    check_length(text, most, path, faults)


def check_length(text: str, most: int, path: Path, faults: Faults) -> None:
    """Check a text that may be empty."""
    if len(text) <= most and text.isprintable():
        return
    if len(text) > most:
        faults.append(Fault(path, f"has {len(text):,} characters", f"write at most {most:,}"))
    controls = _CONTROL_BUT_SPACE if path[-1] == "body" else _CONTROL
    if found := controls(text):
        reason = f"has the control character U+{ord(found.group()):04X}"
        faults.append(Fault(path, reason, "write printable text, on one line but for `creative.body`"))
    _check_unseen(text, path, faults)


def _check_unseen(text: str, path: Path, faults: Faults) -> None:
    """Check a text for characters that are not seen but change what is seen, as of the text around it.

    Source: Unicode Standard Annex #9, sections 2.1 to 2.4, and Unicode Technical Report #36, section 2.5.
    """
    if found := _UNSEEN(text):
        faults.append(Fault(path, f"has the invisible character U+{ord(found.group()):04X}", "leave it out"))
    if found := _EMBEDDING(text):
        fix = "leave it out, or isolate the part of another direction: U+2068, the part, U+2069"
        faults.append(Fault(path, f"has U+{ord(found.group()):04X}, which changes the direction of text", fix))
    for line in text.splitlines():
        depth = 0
        for one in line:
            depth += (one in _ISOLATES) - (one == _POP_ISOLATE)
            if depth < 0:
                break
        if depth:
            is_open = depth > 0
            reason = "leaves an isolate (U+2066 to U+2068) open" if is_open else "closes an isolate that is not open"
            fix = "add U+2069 on the same line" if is_open else "leave U+2069 out"
            faults.append(Fault(path, reason, fix))
            break


def check_duration(duration: Duration, path: Path, faults: Faults, *, least: int = 0, days: int = 1) -> None:
    """Check a duration: whole seconds, from `least` seconds to `days` days."""
    if duration.nanos:
        faults.append(Fault(path, "is not a whole number of seconds", "leave the fraction of the second out"))
    elif not least <= duration.seconds <= days * DAY_S:
        span = f"from {f'{least} s' if least else 0} to {'24 hours' if days == 1 else f'{days} days'}"
        faults.append(Fault(path, f"{duration.seconds:,} s is not {span}", "write seconds, such as 900s"))


def check_time_zone(name: str, path: Path, faults: Faults) -> None:
    """Check the name of a time zone, if there is one."""
    if name and name not in time_zones():
        faults.append(Fault(path, f"'{cut(name)}' is not an IANA time zone", _zone_fix(name)))


def check_country(code: str, path: Path, faults: Faults) -> None:
    """Check the code of a country or region, if there is one."""
    if not code:
        return
    fix = "write two capital letters of ISO 3166-1, such as FR, or a region's code of ISO 3166-2, such as DE-BY"
    if not _COUNTRY(code):
        faults.append(Fault(path, f"'{cut(code)}' is not a country code", fix))
    elif code[:2] not in _countries():
        meant = _OFTEN_MEANT.get(code[:2])
        faults.append(Fault(path, f"there is no country '{code[:2]}'", f"write {meant}" if meant else fix))


@cache
def _countries() -> frozenset[str]:
    """Return the codes of ISO 3166-1 as the time zone data lists them, and Kosovo's, which it lacks."""
    table = resources.files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text(encoding="utf-8")
    return frozenset({line[:2] for line in table.splitlines() if line[:1] not in {"", "#"}} | {"XK"})


@lru_cache(maxsize=1024)
def _zone_fix(name: str) -> str:
    close = close_to(name, time_zones())
    return f"did you mean '{close}'?" if close else "write a name such as Europe/Paris"


def close_to(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant by `name`, or None."""
    folded = {known.casefold(): known for known in names}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None


def is_sound_window(window: Interval) -> bool:
    """Return whether a window with both ends has no fault: a quick test."""
    start, end = window.start_time, window.end_time
    return FIRST_SECOND < start.seconds < end.seconds <= LAST_SECOND and not start.nanos and not end.nanos


def check_window(window: Interval, path: Path, faults: Faults) -> None:
    """Check a span of time: whole seconds from 1970 to 2100, and at least one end."""
    ends: list[int] = []
    for name in ("start_time", "end_time"):
        if window.HasField(name):
            instant = window.start_time if name == "start_time" else window.end_time
            ends.append(instant.seconds)
            if instant.nanos:
                fix = "leave the fraction of the second out"
                faults.append(Fault((*path, name), "is not a whole second", fix))
            if not FIRST_SECOND <= instant.seconds <= LAST_SECOND:
                fix = "write an instant from 1970-01-01T00:00:00Z to 2100-01-01T00:00:00Z, or leave this end open"
                faults.append(Fault((*path, name), "is not from 1970 to 2100", fix))
    if not ends:
        faults.append(Fault(path, "has neither end", "write start_time, end_time or both, or leave the window out"))
    elif ends[0] >= ends[-1] and len(ends) > 1:
        faults.append(Fault((*path, "end_time"), "is not after start_time", "write a later end, or swap the two"))


def check_money(money: Money, path: Path, faults: Faults, *, over_zero: bool) -> None:
    """Check a sum of money: 0 or more or, with `over_zero`, more than 0."""
    decimals = CURRENCIES.get(money.currency_code)
    if decimals is None:
        faults.append(bad_currency((*path, "currency_code"), money.currency_code))
    units, nanos = money.units, money.nanos
    if not -999_999_999 <= nanos <= 999_999_999:
        fix = "write billionths of a unit, such as 500000000 for a half; whole ones go into units"
        faults.append(Fault((*path, "nanos"), f"{nanos} is not within 999,999,999 of 0", fix))
    elif (units > 0 > nanos) or (units < 0 < nanos):
        fix = "give units and nanos the same sign"
        faults.append(Fault((*path, "nanos"), f"{nanos} has not the sign of units, {units}", fix))
    elif units < 0 or nanos < 0:
        faults.append(Fault(path, "is less than 0", "write an amount over 0"))
    elif over_zero and not units and not nanos:
        faults.append(Fault(path, "is 0", "write an amount over 0, in units and nanos"))
    elif decimals is not None and (reason := fraction_fault(money, decimals)):
        faults.append(Fault((*path, "nanos"), reason, "write an amount that can be paid"))


def bad_currency(path: Path, code: str) -> Fault:
    """Return the fault of a text that is no currency code."""
    reason = f"'{cut(code)}' is not a currency code" if code else "missing"
    return Fault(path, reason, "write three capital letters of ISO 4217 that are in force, such as EUR")
