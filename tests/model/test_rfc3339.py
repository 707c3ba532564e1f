"""Instants are read by RFC 3339 exactly, and wall clock times as people write them."""

from datetime import UTC, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.model.rfc3339 import NotAnInstantError, YearOutOfRangeError, seconds_of, time_of_day, wall_time

OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=OFFSETS))  # noqa: DTZ001 - bounds
def test_every_instant_is_read_as_python_reads_it(instant: datetime) -> None:
    """With any offset and microsecond, the seconds since 1970 are those of datetime."""
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)

    assert seconds_of(instant.isoformat()) == (since.days * 86_400 + since.seconds, since.microseconds * 1000)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-24T12:15:00Z", (1_795_522_500, 0)),
        ("2026-11-24t12:15:00z", (1_795_522_500, 0)),
        ("2026-11-24T13:15:00+01:00", (1_795_522_500, 0)),
        ("2026-11-24T12:15:00-00:00", (1_795_522_500, 0)),
        ("2026-11-25T12:14:00+23:59", (1_795_522_500, 0)),
        ("2026-11-24T12:15:00.5Z", (1_795_522_500, 500_000_000)),
        ("2026-11-24T12:15:00.12345678901234567890Z", (1_795_522_500, 123_456_789)),
        ("2016-12-31T23:59:60Z", (1_483_228_800, 0)),
        ("2016-12-31T23:59:60.25Z", (1_483_228_800, 250_000_000)),
        ("1990-12-31T15:59:60-08:00", (662_688_000, 0)),
        ("0001-01-01T00:00:00Z", (-62_135_596_800, 0)),
        ("9999-12-31T23:59:59.999999999Z", (253_402_300_799, 999_999_999)),
    ],
)
def test_what_the_grammar_allows_is_read(text: str, wanted: tuple[int, int]) -> None:
    """Lower case, any number of decimals, any offset to 23:59, and leap seconds at the end of a month."""
    assert wanted == seconds_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1795522500",
        "2026-11-24",
        "2026-11-24T12:15:00",
        "2026-11-24 12:15:00Z",
        "2026-11-24T12:15Z",
        "2026-11-24T12:15:00.Z",
        "2026-11-24T12:15:00,5Z",
        "2026-11-24T12:15:00+0100",
        "2026-11-24T12:15:00+01",
        "2026-11-24T12:15:00 Z",
        "2026-1-4T12:15:00Z",
        "20261124T121500Z",
        "2026-W48-2T12:15:00Z",
        "+2026-11-24T12:15:00Z",
        "12026-11-24T12:15:00Z",
        "\uff12\uff10\uff12\uff16-11-24T12:15:00Z",
        "2026-11-24T12:15:00Z\n",
        " 2026-11-24T12:15:00Z",
    ],
)
def test_another_form_is_no_instant(text: str) -> None:
    """Sloppy dates, missing zones and other forms of ISO 8601 are refused without a further reason."""
    with pytest.raises(NotAnInstantError, match=r"^$"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-02-30T12:15:00Z", "day"),
        ("2026-13-01T12:15:00Z", "month"),
        ("0000-01-01T00:00:00Z", "year"),
        ("2026-11-24T24:00:00Z", "hour"),
        ("2026-11-24T12:60:00Z", "minute"),
        ("2026-11-24T12:15:61Z", "second"),
        ("2026-11-24T12:15:00+99:99", "offset is beyond 23:59"),
        ("2026-11-24T12:15:00+24:00", "offset is beyond 23:59"),
        ("2026-11-24T12:15:00-01:60", "offset is beyond 23:59"),
        ("2026-11-24T12:15:60Z", "last day of a month"),
        ("2026-11-24T23:59:60Z", "last day of a month"),
        ("2026-11-30T23:59:60+01:00", "last day of a month"),
        ("9999-12-31T23:59:60Z", "last day of a month"),
    ],
)
def test_an_instant_that_does_not_exist_is_refused_with_the_reason(text: str, reason: str) -> None:
    """The form is right, and a field is not."""
    with pytest.raises(NotAnInstantError, match=reason):
        seconds_of(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:00-00:01"])
def test_years_are_those_of_a_timestamp(text: str) -> None:
    """An offset may not move an instant out of the years 1 to 9999."""
    with pytest.raises(YearOutOfRangeError):
        seconds_of(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-24", "2026-11-24T00:00:00"),
        ("2026-11-24 12:15", "2026-11-24T12:15:00"),
        ("2026-11-24T12:15:30.25", "2026-11-24T12:15:30.250000"),
        ("2026-11-24t12:15z", "2026-11-24T12:15:00+00:00"),
        ("2026-11-24 12:15:00-05:30", "2026-11-24T12:15:00-05:30"),
    ],
)
def test_people_leave_out_parts_of_a_time(text: str, wanted: str) -> None:
    """A date alone, a space for the T, no seconds, no offset."""
    assert wanted == wall_time(text).moment().isoformat()


@pytest.mark.parametrize(
    "text", ["2026-1-4", "20261104", "2026-11-24T12", "2026-11-24  12:15", "2026-11-24Z", "2026-12-31 23:59:60"]
)
def test_people_write_dates_and_times_in_full(text: str) -> None:
    """Fields have their digits, and a leap second has an offset."""
    with pytest.raises(NotAnInstantError):
        wall_time(text)


def test_times_of_a_day() -> None:
    """Hours and minutes have two digits each; other texts are no times of a day."""
    assert (time(12, 15), time(12, 15, 30, 250_000)) == (time_of_day("12:15"), time_of_day("12:15:30.25"))
    assert time(12, 15, tzinfo=UTC) == time_of_day("12:15Z")
    assert [None] * 5 == [time_of_day(text) for text in ("1215", "12", "T12:15", "2026-11-24", "soon")]
    with pytest.raises(NotAnInstantError, match="hour"):
        time_of_day("25:00")
