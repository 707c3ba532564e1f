"""Calendar periods: the day, week or month around an instant by the clock of a time zone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from offers.catalogue.hours.schedules import NEVER
from offers.v1.limits_pb2 import CalendarPeriod

_DAY = timedelta(days=1)


def period_of(kind: int, time_zone: str, second: int) -> tuple[int, int]:
    """Return the first second of the period around an instant, and of the next period.

    `kind` is an offers.v1.CalendarPeriod.
    """
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
    """The periods that the caps of a catalogue name, around an instant."""

    def __init__(self, periods: Sequence[tuple[int, str]]) -> None:
        """Take the kinds and time zones of the periods."""
        self._periods = [(int(kind), zone) for kind, zone in periods]
        self._lock = Lock()
        self.spans = np.zeros(2 * len(periods), np.int64)
        """The first and last second (exclusive) of each period."""

    def roll(self, second: int, holds: NDArray[np.int64]) -> None:
        """Set `spans` to the periods around an instant, and write into `holds` between which seconds they are right.

        While `spans` is written, `holds` is empty: compiled loops may run between any two lines of this.
        """
        spans = [period_of(kind, zone, second) for kind, zone in self._periods]
        with self._lock:
            holds[:] = 0
            self.spans[:] = np.array(spans, np.int64).reshape(-1)
            begin, end = max((one for one, _ in spans), default=-NEVER), min((one for _, one in spans), default=NEVER)
            holds[:] = begin, end
