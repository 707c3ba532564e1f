"""All real coupons are imported, and every offer equals an independent reading of the CSV."""

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from opening_hours import OpeningHours

from offers.catalogue.importing import ImportResult, import_table
from offers.v1.offer_pb2 import Offer
from tests.paths import DATA

COUPONS = DATA / "coupon_catalogue"
MAPPING = Path(__file__).with_name("coupons_mapping.yaml")
TOKYO = ZoneInfo("Asia/Tokyo")
WEEKDAY_COLUMNS = tuple(f"USABLE_DATE_{day}" for day in ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"))

pytestmark = pytest.mark.skipif(not COUPONS.is_dir(), reason=f"the real coupons are not there: {COUPONS}")


def read(name: str) -> list[dict[str, str]]:
    """Read one of the files, without any part of the import."""
    with (COUPONS / name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """Return the rows of the coupons."""
    return read("coupon_list_train.csv")


@pytest.fixture(scope="module")
def imported() -> ImportResult:
    """Import the coupons."""
    tables = {"prefectures": COUPONS / "prefecture_locations.csv"}
    return import_table(MAPPING, COUPONS / "coupon_list_train.csv", tables=tables)


def instant(at: Timestamp) -> datetime:
    """Return an instant as a datetime."""
    assert 0 == at.nanos
    return datetime.fromtimestamp(at.seconds, UTC)


def tokyo(day: date, clock: time = time()) -> datetime:
    """Return the instant of a Japanese wall clock."""
    return datetime.combine(day, clock, TOKYO)


def is_holiday() -> Callable[[date], bool]:
    """Return what tells Japanese public holidays, from the library's calendar alone."""
    calendar = OpeningHours("PH", country="JP")
    days = [date(2011, 6, 1) + timedelta(days=number) for number in range(600)]
    holidays = {day for day in days if calendar.is_open(datetime.combine(day, time()))}
    return holidays.__contains__


def test_every_coupon_is_imported(imported: ImportResult, rows: list[dict[str, str]]) -> None:
    """All 19,413 coupons become offers, in their order, and none is rejected."""
    assert (19_413, 19_413, ()) == (imported.rows, len(imported.catalog.offers), imported.rejects)
    assert [row["COUPON_ID_hash"] for row in rows] == [offer.offer_id for offer in imported.catalog.offers]


def test_windows_are_those_of_the_file(imported: ImportResult, rows: list[dict[str, str]]) -> None:
    """Each coupon may be shown from DISPFROM to DISPEND, and used from VALIDFROM to the end of VALIDEND."""
    limited = 0
    for row, offer in zip(rows, imported.catalog.offers, strict=True):
        (shown,) = offer.availability.windows
        begin, end = (datetime.fromisoformat(row[name]) for name in ("DISPFROM", "DISPEND"))
        assert tokyo(begin.date(), begin.time()) == instant(shown.start_time), row
        assert tokyo(end.date(), end.time()) == instant(shown.end_time), row
        assert not offer.redemption.required_when_shown
        used = offer.redemption.window
        for name, place, days in (("VALIDFROM", "start_time", 0), ("VALIDEND", "end_time", 1)):
            assert used.HasField(place) == (row[name] != "NA"), row
            if row[name] != "NA":
                wanted = tokyo(date.fromisoformat(row[name]) + timedelta(days=days))
                assert wanted == instant(used.start_time if days == 0 else used.end_time), row
                limited += 1
    assert 2 * 13_266 == limited


def test_usable_days_are_those_of_the_file(imported: ImportResult, rows: list[dict[str, str]]) -> None:
    """For each of the flag combinations, every day of 19 months is usable as the flags say."""
    holiday = is_holiday()
    days = [date(2011, 7, 1) + timedelta(days=number) for number in range(560)]
    kinds = [
        (day, row, holiday(day), holiday(day + timedelta(days=1)))
        for day in days
        for row in [WEEKDAY_COLUMNS[day.weekday()]]
    ]
    assert 20 < sum(is_free for _, _, is_free, _ in kinds)
    checked: dict[tuple[str, ...], str] = {}
    for row, offer in zip(rows, imported.catalog.offers, strict=True):
        flags = tuple(value for name, value in row.items() if name.startswith("USABLE_DATE_"))
        expression = offer.redemption.opening_hours
        if checked.setdefault(flags, expression) != expression:
            pytest.fail(f"{flags} became both {checked[flags]!r} and {expression!r}")
    for flags, expression in checked.items():
        if set(flags) == {"NA"}:
            assert "" == expression
            continue
        columns = dict(zip((*WEEKDAY_COLUMNS, "HOLIDAY", "BEFORE_HOLIDAY"), flags, strict=True))
        hours = OpeningHours(expression, country="JP")
        for day, weekday, is_free, is_eve in kinds:
            flag = columns["HOLIDAY" if is_free else "BEFORE_HOLIDAY" if is_eve else weekday]
            for clock in (time(0, 0), time(23, 59, 59)):
                assert hours.is_open(datetime.combine(day, clock)) == (flag != "0"), (flags, expression, day)
    assert 416 == len(checked)


def test_other_elements_are_those_of_the_file(imported: ImportResult, rows: list[dict[str, str]]) -> None:
    """Benefit, value, words and circle are those of the coupon's row and its prefecture's."""
    offices = {row["PREF_NAME"]: row for row in read("prefecture_locations.csv")}
    fixed = 0
    for row, offer in zip(rows, imported.catalog.offers, strict=True):
        rate, price = int(row["PRICE_RATE"]), int(row["DISCOUNT_PRICE"])
        wanted = Offer()
        if rate > 0:
            wanted.benefit.percent_off = rate
        else:
            fixed += 1
            wanted.benefit.fixed_price.CopyFrom(Money(currency_code="JPY", units=price))
        assert wanted.benefit == offer.benefit, row
        assert (rate or 1) / 100 == offer.value, row
        gain = f"{rate}%OFF" if rate > 0 else f"{price}円"
        assert (f"{row['CAPSULE_TEXT']} {gain}", row["GENRE_NAME"]) == (offer.title, offer.category)
        (circle,) = offer.target.circles
        office = offices[row["ken_name"]]
        wanted_circle = (float(office["LATITUDE"]), float(office["LONGITUDE"]), 40_000)
        assert wanted_circle == (circle.center.latitude, circle.center.longitude, circle.radius_m), row
    assert 23 == fixed
