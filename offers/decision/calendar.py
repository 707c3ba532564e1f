"""Calendar periods: when the day, week or month around an instant begins and ends by the clock of a time zone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from offers.v1.limits_pb2 import CalendarPeriod

_DAY = timedelta(days=1)


def period_of(kind: int, time_zone: str, second: int) -> tuple[int, int]:
    """The first second of the period of a kind (offers.v1.CalendarPeriod) around an instant, and of the next."""
    zone = ZoneInfo(time_zone)
    today = datetime.fromtimestamp(second, zone).date()
    if kind == CalendarPeriod.CALENDAR_PERIOD_WEEK:
        first = today - today.weekday() * _DAY
        following = first + 7 * _DAY
    elif kind == CalendarPeriod.CALENDAR_PERIOD_MONTH:
        first = today.replace(day=1)
        following = (first + 31 * _DAY).replace(day=1)
    else:
        first, following = today, today + _DAY
    begin, end = (
        int(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp())
        for day in (first, following)
    )
    return begin, end


class Calendar:
    """The periods that the caps of a catalogue name."""

    def __init__(self, periods: Sequence[tuple[int, str]]) -> None:
        """`periods` are kinds and time zones."""
        self._periods = [(int(kind), zone) for kind, zone in periods]
        self._known = 0, 0, np.zeros(2 * len(periods), np.int64)
        """Between which seconds what holds: their first and last seconds (exclusive)."""

    def write(self, second: int, spans: NDArray[np.int64]) -> None:
        """Write the first and last second (exclusive) of each period around an instant."""
        begin, end, known = self._known
        if not self._periods:
            return
        if not begin <= second < end:
            known = np.array([period_of(kind, zone, second) for kind, zone in self._periods], np.int64).reshape(-1)
            self._known = int(known[::2].max()), int(known[1::2].min()), known
        spans[: len(known)] = known
