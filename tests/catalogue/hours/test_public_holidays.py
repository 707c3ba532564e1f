"""Public holidays are those of the country or region, and hours that name them are read as any others."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import opening_hours
import pytest
from opening_hours import OpeningHours

from offers.catalogue.hours.grammar import refusal
from offers.catalogue.hours.public_holidays import are_known, holidays_of, regions_of
from offers.catalogue.hours.schedules import FIRST_SECOND, LAST_SECOND, SchedulePart, zone_clock
from offers.client import OffersClient, context
from offers.testing import serving
from offers.v1.offer_service_pb2 import GetOffersRequest
from tests.paths import ROOT

DAY = 86_400


def library_days(country: str) -> set[date]:
    """Return the public holidays of a country as the opening-hours library knows them."""
    hours = OpeningHours("PH", country=country)
    begin, end = datetime(1990, 1, 1), datetime(2090, 1, 1)  # noqa: DTZ001 - the library reads wall clocks
    return {
        (start + timedelta(days=away)).date()
        for start, until, state, _ in hours.intervals(begin, end)
        if state == opening_hours.State.OPEN
        for away in range((until - start).days)
    }


@pytest.mark.parametrize(
    ("code", "year", "some", "no"),
    [
        ("DE-BY", 2026, ["06-04", "01-06", "11-01", "10-03"], ["08-15", "10-31", "03-08"]),  # 15 Aug: some communes
        ("DE-SL", 2026, ["08-15", "06-04"], ["10-31"]),
        ("DE-BE", 2026, ["03-08", "12-26"], ["06-04", "01-06"]),
        ("DE-BE", 2018, ["10-03"], ["03-08"]),  # from 2019 on
        ("ES-MD", 2026, ["05-02", "01-06"], ["09-11"]),
        ("ES-CT", 2026, ["09-11", "06-24"], ["05-02"]),
        ("CA-QC", 2026, ["06-24", "07-01"], ["02-16"]),
        ("CA-ON", 2026, ["02-16", "07-01"], ["06-24"]),
        ("GB-SCT", 2026, ["01-02", "11-30", "08-03"], ["04-06", "08-31"]),
        ("GB-ENG", 2026, ["04-06", "08-31"], ["01-02", "11-30"]),
        ("FR-57", 2026, ["04-03", "12-26", "07-14"], []),  # Alsace-Moselle
        ("CH-GE", 2026, ["09-10", "12-31", "08-01"], ["01-02"]),
        ("IN", 2026, ["01-26", "08-15", "10-02", "12-25"], ["05-02"]),
        ("IN", 2090, ["01-26", "08-15", "10-02"], ["05-02"]),  # those by the moon are known from 2001 to 2035
        ("IN-MH", 2026, ["05-01", "01-26"], []),
    ],
)
def test_holidays_of_regions(code: str, year: int, some: list[str], no: list[str]) -> None:
    """Days that a region has by law are among its holidays, and those that only others have are not."""
    days = {f"{day:%m-%d}" for day in holidays_of(code, year)}
    assert set(some) <= days
    assert days.isdisjoint(no)
    part, clock = SchedulePart(("PH",), "UTC", code), zone_clock("UTC")
    for day in some + no:
        noon = int(datetime.fromisoformat(f"{year}-{day}T12:00+00:00").timestamp())
        assert (day in some) == part.at(noon, clock)[0], day


@pytest.mark.parametrize("country", ["DE", "NO", "FR", "CH"])
def test_regions_have_the_holidays_of_their_country(country: str) -> None:
    """Each region of a country that both sources know has the national days of the library."""
    national = {day for day in library_days(country) if 2010 <= day.year <= 2040}
    assert len(national) > 100
    for code in [country, *regions_of(country)]:
        own = {day for year in range(2010, 2041) for day in holidays_of(code, year)}
        assert national <= own, (code, sorted(national - own)[:3])
        assert own == national or code != country


@pytest.mark.parametrize("code", ["DE-BE", "CA-QC", "IN"])
def test_any_instant_can_be_asked_for(code: str) -> None:
    """From 1970 to 2100 each state lasts as long as it is said to, and is that of the wall clock's day."""
    zone, random = {"DE-BE": "Europe/Berlin", "CA-QC": "America/Toronto", "IN": "Asia/Kolkata"}[code], Random(code)
    part, clock = SchedulePart(("PH 00:00-24:00",), zone, code), zone_clock(zone)
    seconds = [FIRST_SECOND, LAST_SECOND - 1, *(random.randrange(FIRST_SECOND, LAST_SECOND) for _ in range(150))]
    seconds += [int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) for month in range(1, 13)]
    for second in seconds:
        local = datetime.fromtimestamp(second, ZoneInfo(zone)).date()
        is_open, until = part.at(second, clock)
        assert is_open == (local in holidays_of(code, local.year)), local
        if is_open:
            after = datetime.fromtimestamp(until, ZoneInfo(zone))
            assert (0, 0) == (after.hour, after.minute)
            assert after.date() not in holidays_of(code, after.year)


def test_across_a_clock_change() -> None:
    """A holiday on which clocks change is as long as the day is, and its night as long as the night."""
    paschal = int(datetime(2024, 3, 31, tzinfo=ZoneInfo("Europe/Berlin")).timestamp())  # Brandenburg has Easter Sunday
    part = SchedulePart(("PH 00:00-24:00",), "Europe/Berlin", "DE-BB")
    clock = zone_clock("Europe/Berlin")
    assert [(paschal, paschal + 23 * 3_600 + DAY)] == part.spans(paschal - 3_600, paschal + 3 * DAY, clock)
    night = SchedulePart(("PH 22:00-26:00",), "Europe/Berlin", "DE-BB")
    spans = night.spans(paschal, paschal + DAY, clock)
    assert [(paschal + 21 * 3_600, paschal + 25 * 3_600)] == spans


@pytest.mark.parametrize(("times", "end"), [("22:00-26:00", 2), ("sunset-03:00", 3)])
def test_across_the_turn_of_the_year(times: str, end: int) -> None:
    """The night after a holiday continues into the next year, also for requests after midnight."""
    part, clock = SchedulePart((f"PH {times}",), "Europe/Zurich", "CH-GE", (46.2, 6.1)), zone_clock("Europe/Zurich")
    midnight = int(datetime(2027, 1, 1, tzinfo=ZoneInfo("Europe/Zurich")).timestamp())  # Restauration is 31 December
    assert (True, midnight + end * 3_600) == part.at(midnight, clock)


def test_by_the_sun() -> None:
    """Hours from dusk on a regional holiday and none on other days."""
    part = SchedulePart(("PH sunset-24:00",), "Europe/Berlin", "DE-BE", (52.5, 13.4))
    begin = int(datetime(2026, 3, 6, tzinfo=UTC).timestamp())
    ((start, end),) = part.spans(begin, begin + 5 * DAY, zone_clock("Europe/Berlin"))
    local = datetime.fromtimestamp(start, ZoneInfo("Europe/Berlin"))
    assert (3, 8, 17) == (local.month, local.day, local.hour)
    assert (2026, 3, 9, 0) == datetime.fromtimestamp(end, ZoneInfo("Europe/Berlin")).timetuple()[:4]


def test_hours_beside_those_with_holidays() -> None:
    """Hours that name no holiday are read as anywhere, where the others mean those of a region."""
    begin = int(datetime(2026, 3, 6, tzinfo=UTC).timestamp())  # a Friday
    for other, opens in (("Mo 10:00-12:00", 10), ("Mo sunrise-12:00", 6)):
        part = SchedulePart((other, "PH 10:00-12:00"), "Europe/Berlin", "DE-BE", (52.5, 13.4))
        spans = part.spans(begin, begin + 5 * DAY, zone_clock("Europe/Berlin"))
        starts = [datetime.fromtimestamp(start, ZoneInfo("Europe/Berlin")) for start, _ in spans]
        assert [(8, 10), (9, opens)] == [(start.day, start.hour) for start in starts]


PLACES = ((48.137, 11.575, "Europe/Berlin"), (52.52, 13.405, "Europe/Berlin"), (28.61, 77.21, "Asia/Kolkata"))
CATALOG = """
catalog_id: feast
country_code: DE-BE
venues:
- {venue_id: munich, point: {latitude: 48.137, longitude: 11.575}, radius_m: 2000, country_code: DE-BY}
- {venue_id: berlin, point: {latitude: 52.52, longitude: 13.405}, radius_m: 2000}
- {venue_id: delhi, point: {latitude: 28.61, longitude: 77.21}, radius_m: 2000, country_code: IN}
offers:
- offer_id: one
  title: One
  benefit: {percent_off: 5}
  target: {venue_ids: [munich, berlin, delhi]}
  availability: {opening_hours: "PH 10:00-26:00"}
"""


def test_an_offer_on_holidays(tmp_path: Path) -> None:
    """An offer is shown on the holidays of the region of its venue, else of the catalogue's."""
    (tmp_path / "feast.yaml").write_text(CATALOG)
    shown = set()
    with serving(tmp_path / "feast.yaml") as served, OffersClient(served.target) as client:
        for lat, lng, zone in PLACES:
            for day in ("2026-03-08", "2026-06-04", "2026-08-15", "2098-12-25"):
                for time in ("11:00", "09:59", "01:59"):
                    request = GetOffersRequest(context=context(lat=lat, lng=lng))
                    at = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=ZoneInfo(zone))
                    request.context.time.FromSeconds(int(at.timestamp()))
                    if client.get_offers(request).offers:
                        shown.add((lat, day, time))
    assert {
        *((lat, "2098-12-25", "11:00") for lat in (48.137, 52.52, 28.61)),
        (48.137, "2026-06-04", "11:00"), (52.52, "2026-03-08", "11:00"), (28.61, "2026-08-15", "11:00"),
    } == shown  # fmt: skip


def test_what_is_known() -> None:
    """A code is known if it is one of the package and has any holiday."""
    assert all(map(are_known, ("DE", "IN", "IN-MH", "DE-BY", "US-TX", "GB", "XK")))
    assert not any(map(are_known, ("XX", "ZZ", "UK", "DE-XX", "DE-ZZ", "ZZ-AA", "NO-99", "BV", "DE-Augsburg")))
    assert ["DE-BB", "DE-BE"] == regions_of("DE")[:2]
    assert not regions_of("ZZ")
    assert all(one < other for one, other in pairwise(regions_of("IN")))


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("DE-XX", "one of DE, DE-BB, DE-BE"),
        ("IN-XX", "one of IN, IN-A"),
        ("EE-37", "one of EE"),
        ("ZZ-A", "correct"),
        ("DE-ZZ", "one of DE"),
    ],
)
def test_unknown_regions_are_refused(code: str, fix: str) -> None:
    """Hours with the holidays of a region that is not known are refused, with the regions that are."""
    found = refusal("Mo-Fr; PH off", code)
    assert found is not None
    assert f"no public holidays are known for region '{code}'" == found[0]
    assert fix in found[1]


LOADING = """
import sys
from offers.catalogue.hours.schedules import SchedulePart, zone_clock
part = SchedulePart((sys.argv[1],), "Europe/Berlin", "DE")
loaded = "holidays" in sys.modules
part.at(1_777_600_000, zone_clock("Europe/Berlin"))
print(loaded, "holidays" in sys.modules)
"""


@pytest.mark.parametrize(("hours", "loaded"), [("Mo-Fr 09:00-17:00", False), ("Mo-Fr 09:00-17:00; PH off", True)])
def test_holidays_are_loaded_before_they_are_asked_for(hours: str, *, loaded: bool) -> None:
    """The package is imported when a schedule that names holidays is opened, and not at all for others."""
    shown = subprocess.run([sys.executable, "-c", LOADING, hours], capture_output=True, text=True, check=True, cwd=ROOT)
    assert f"{loaded} {loaded}\n" == shown.stdout
