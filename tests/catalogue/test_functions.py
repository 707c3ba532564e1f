"""Functions of segments: versions, small letters and dates, called in CEL as segments call them."""

import sys
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from offers.catalogue.expressions import ExpressionError, compiled, environment
from offers.catalogue.functions import (
    days_between,
    is_anniversary,
    lower,
    semver_compare,
    small_letters,
    start_of_day,
    years_between,
)
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.profile_pb2 import Profile

RISING = (
    "0.0.0-0", "0.0.1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0", "2", "2.0.1", "2.1", "10.0.0", f"1{'0' * 5000}.0.0",
)  # fmt: skip
"""Versions of which each comes after the one before: semver.org's example, and more."""
PARIS, NEW_YORK = "Europe/Paris", "America/New_York"


def at(text: str) -> datetime:
    """Read an instant."""
    return datetime.fromisoformat(text)


def evaluated(expression: str, now: str = "2026-11-24T11:15:00Z", **attributes: Any) -> object:  # noqa: ANN401
    """Return the value of an expression for a person with attributes, or "error"."""
    profile, instant = Profile(), Timestamp()
    profile.attributes.update(attributes)
    profile.last_order_time.FromJsonString("2026-11-22T23:30:00Z")
    instant.FromJsonString(now)
    facts = {"user": User(), "session": Session(), "context": Context(), "profile": profile, "now": instant}
    value = environment().compile(expression).eval(environment().Activation(facts))
    return "error" if value.type().name() == "ERROR" else value.value()


def test_versions_have_the_precedence_of_semver() -> None:
    """Of two versions the later one in the list comes after; build metadata says nothing."""
    for one, other in combinations(RISING, 2):
        assert (-1, 1) == (semver_compare(one, other), semver_compare(other, one)), (one, other)
    for one in RISING:
        assert 0 == semver_compare(one, f"{one}+build.7")
    assert 0 == semver_compare("2", "2.0.0")


@pytest.mark.parametrize(
    "text", ["", "1.", "1.0.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "v1.0.0", "1.0.0-a..b", "\u0661.0.0"]
)
def test_what_is_no_version_fails(text: str) -> None:
    """The evaluation is an error, and so the segment is false; || and && go on as with every error."""
    assert "error" == evaluated("semver_compare(profile.attributes.app, '1.0.0') >= 0", app=text)
    assert evaluated("semver_compare(profile.attributes.app, '1.0.0') >= 0 || true", app=text) is True


def test_versions_are_compared_in_segments() -> None:
    """The usual segment of an app's version."""
    newer = "semver_compare(profile.attributes.app, '5.10.0') >= 0"
    told = [evaluated(newer, app=app) for app in ("5.9.3", "5.10", "5.10.0-rc.1", "6.0.0")]
    assert [False, True, False, True] == told
    assert "error" == evaluated(newer, app=5.1)
    assert "error" == evaluated(newer)


def test_small_letters_are_one_for_one() -> None:
    """The mapping of each letter is its own: no letter becomes two, and none depends on its neighbours."""
    assert "éclair straße σς i" == lower("ÉCLAIR STRAßE Σς \u0130")
    assert evaluated("lower(profile.attributes.city) == 'saint-étienne'", city="SAINT-Étienne") is True
    assert evaluated("profile.attributes.city.lowerAscii() == 'Étienne'", city="ÉTIENNE") is True
    changed = dict(zip(*small_letters(), strict=True))
    for code in range(sys.maxunicode + 1):
        if not 0xD800 <= code < 0xE000:
            assert chr(changed.get(code, code)) == lower(chr(code))


def test_days_are_counted_by_hours_or_by_the_clock_of_a_zone() -> None:
    """Whole days of 24 hours without a zone, midnights with one."""
    assert 1 == evaluated("days_between(profile.last_order_time, now)")
    assert -2 == evaluated("days_between(now, profile.last_order_time)")
    assert 2 == evaluated("days_between(profile.last_order_time, now, '')")
    assert 1 == evaluated(f"days_between(profile.last_order_time, now, '{PARIS}')")
    assert 2 == evaluated("days_between(profile.last_order_time, now, '-05:00')")
    assert 0 == days_between(at("2026-11-24T00:00:00+00:00"), at("2026-11-24T23:59:59.999+00:00"))


@pytest.mark.parametrize(
    ("day", "now", "zone", "years", "is_day"),
    [
        ("1990-11-24", "2026-11-24T00:00:00+01:00", PARIS, 36, True),
        ("1990-11-24", "2026-11-23T23:59:59+01:00", PARIS, 35, False),
        ("1990-11-24", "2026-11-24T00:00:00+01:00", NEW_YORK, 35, False),
        ("2026-11-24", "2026-11-24T12:00:00+01:00", PARIS, 0, False),
        ("2000-02-29", "2027-02-28T12:00:00+01:00", PARIS, 26, False),
        ("2000-02-29", "2027-03-01T12:00:00+01:00", PARIS, 27, True),
        ("2000-02-29", "2028-02-29T12:00:00+01:00", PARIS, 28, True),
        ("2000-02-29", "2028-03-01T12:00:00+01:00", PARIS, 28, False),
        ("2030-01-01", "2026-11-24T12:00:00+01:00", PARIS, -4, False),
    ],
)
def test_years_and_anniversaries(day: str, now: str, zone: str, years: int, is_day: bool) -> None:  # noqa: FBT001
    """A day of birth makes an age and an anniversary, by the clock of a zone."""
    assert (years, is_day) == (years_between(day, at(now), zone), is_anniversary(day, at(now), zone))
    told = f"years_between(profile.attributes.born, timestamp('{now}'), '{zone}')"
    assert years == evaluated(told, born=day)
    assert is_day is evaluated(told.replace("years_between", "is_anniversary"), born=day)


def test_instants_have_anniversaries_too() -> None:
    """The day of an instant is that of the zone."""
    assert evaluated("is_anniversary(profile.last_order_time, now, 'Europe/Paris')", "2027-11-23T11:00:00Z") is True
    assert evaluated("is_anniversary(profile.last_order_time, now, '')", "2027-11-23T11:00:00Z") is False
    assert evaluated("years_between(profile.last_order_time, now, '') == 1", "2027-11-23T11:00:00Z") is True


@pytest.mark.parametrize(
    ("instant", "zone", "begin"),
    [
        ("2026-11-24T11:15:00Z", PARIS, "2026-11-23T23:00:00Z"),
        ("2026-11-24T11:15:00Z", "", "2026-11-24T00:00:00Z"),
        ("2026-11-24T01:15:00Z", "-05:00", "2026-11-23T05:00:00Z"),
        ("2026-03-29T12:00:00Z", PARIS, "2026-03-28T23:00:00Z"),  # a day of 23 hours
        ("2018-11-04T12:00:00Z", "America/Sao_Paulo", "2018-11-04T03:00:00Z"),  # midnight is skipped
        ("2026-11-01T12:00:00Z", "America/Havana", "2026-11-01T04:00:00Z"),  # midnight comes twice
        ("1919-03-31T12:00:00Z", "America/Toronto", "1919-03-31T04:30:00Z"),  # 23:30 to 00:30 is skipped
    ],
)
def test_a_day_begins_with_its_first_instant(instant: str, zone: str, begin: str) -> None:
    """Where a clock change skips midnight, it begins at the change; where midnight comes twice, with the first."""
    assert at(begin) == start_of_day(at(instant), zone)
    assert evaluated(f"start_of_day(timestamp('{instant}'), '{zone}') == timestamp('{begin}')") is True


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from([PARIS, NEW_YORK, "America/Havana", "Pacific/Apia", "Asia/Kathmandu", "Africa/Cairo"]),
)
def test_a_day_begins_before_its_instants(instant: datetime, zone: str) -> None:
    """The start is on the same day and not after the instant, and the second before it is on another day."""
    clock, begin = ZoneInfo(zone), start_of_day(instant, zone)
    day = instant.astimezone(clock).date()
    assert begin <= instant
    assert day == begin.astimezone(clock).date() != (begin - timedelta(seconds=1)).astimezone(clock).date()


def test_days_are_written_as_texts() -> None:
    """`date` is midnight in UTC."""
    assert evaluated("date(profile.attributes.since) == timestamp('2026-11-24T00:00:00Z')", since="2026-11-24") is True
    for text in ("2026-11-31", "24.11.2026", "2026-11-24T00:00:00Z", ""):
        assert "error" == evaluated("date(profile.attributes.since) < now", since=text)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("semver_compare(profile.attributes.app, '1.x') > 0", "'1.x' is no version: write one such as 2.3.0"),
        ("days_between(profile.last_order_time, now, 'Paris') > 1", "'Paris' is no time zone: write an IANA name"),
        ("is_anniversary('24.11.1990', now, 'Europe/Paris')", "'24.11.1990' is no day: write one such as 2026-11-24"),
        ("date('2026-02-30') < now", "'2026-02-30' is no day: there is none in the calendar"),
        ("profile.attributes.id == 9007199254740993", "compares 9007199254740993 with"),
        ("-9007199254740993 < profile.attributes.id", "exact only below 2^53: write both as texts"),
        ("profile.attributes.id in [1, 9007199254740992]", "exact only below 2^53"),
        ("9007199254740993 in profile.attributes.ids", "exact only below 2^53"),
        ("int(context.attributes.id) != 9007199254740993", "exact only below 2^53"),
        ("profile.attributes.id == 9007199254740993u", "exact only below 2^53"),
        ("profile.attributes.id == 9007199254740993.0", "exact only below 2^53"),
        ("double(profile.attributes.id) == double(9007199254740993)", "exact only below 2^53"),
        ("profile.attributes.id in [int('9007199254740993')]", "exact only below 2^53"),
        ("-profile.attributes.id == -(9007199254740993)", "exact only below 2^53"),
        ("profile.attributes.id in [1.0, 1e16]", "exact only below 2^53"),
        ("start_of_day(now, '+25:00') < now", "'+25:00' is no time zone: write an IANA name"),
        ("start_of_day(now, '-24:00') < now", "'-24:00' is no time zone: write an IANA name"),
    ],
)
def test_constants_that_cannot_be_meant_are_refused(expression: str, told: str) -> None:
    """The check of a catalogue says what is wrong with a text or a number in an expression."""
    with pytest.raises(ExpressionError) as caught:
        compiled(expression)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "profile.order_count > 9007199254740993",
        "profile.order_count in [9007199254740993]",
        "profile.attributes.id == 9007199254740991",
        "profile.attributes.share < 1e300",
        "start_of_day(now, '-23:59') < now",
        "profile.attributes.id == '9007199254740993'",
    ],
)
def test_what_is_compared_exactly_is_allowed(expression: str) -> None:
    """Whole fields of the protos, numbers below 2^53, and texts."""
    assert compiled(expression)
