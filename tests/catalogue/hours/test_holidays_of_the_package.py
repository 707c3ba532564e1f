"""Public holidays are those of the holidays package, for every code that it supports, and of published lists."""

import warnings
from datetime import date

import holidays
import pytest

from offers.catalogue.hours.public_holidays import are_known, data_version, holidays_of, regions_of

YEARS = range(2020, 2036)
WITHOUT = {"BV", "HM", "IO"}
"""Countries (nobody lives there) of which the package lists no day."""


def of_package(country: str, region: str | None = None) -> set[date]:
    """Return the public holidays that the package gives for all years at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        days = holidays.country_holidays(country, region, years=range(2019, 2037), categories=holidays.PUBLIC)
    return {day for day in days if day.year in YEARS}


def test_every_country_and_region() -> None:
    """16 years of each country and region are the package's, and a country has what all its regions have."""
    compared, added = 0, set()
    supported = holidays.list_supported_countries(include_aliases=False)
    assert len(supported.keys() - WITHOUT) == 247  # as the README says
    for country, regions in supported.items():
        theirs = {region: of_package(country, region) for region in regions}
        for region, days in theirs.items():
            if f"{country}-{region}" in regions_of(country):
                assert days == {day for year in YEARS for day in holidays_of(f"{country}-{region}", year)}, region
                compared += 1
        national = of_package(country)
        common = set.intersection(*theirs.values()) if theirs else set()
        assert national | common == {day for year in YEARS for day in holidays_of(country, year)}, country
        assert are_known(country) == (country not in WITHOUT)
        if common - national:
            added.add(country)
        compared += 1
    assert compared > 850
    assert {"AU"} <= added


PUBLISHED = {
    # https://www.gov.uk/bank-holidays; the actual days are in law, too.
    "GB-ENG": (
        2026,
        "01-01 04-03 04-06 05-04 05-25 08-31 12-25 12-26 12-28",
    ),
    "GB-SCT": (2026, "01-01 01-02 04-03 05-04 05-25 06-15 08-03 11-30 12-25 12-26 12-28"),
    # https://www.opm.gov/policy-data-oversight/pay-leave/federal-holidays; 4 July is a Saturday.
    "US": (2026, "01-01 01-19 02-16 05-25 06-19 07-03 07-04 09-07 10-12 11-11 11-26 12-25"),
    # Law 2429: three and a half days of Ramadan, four and a half of the sacrifice; the halves are no public holidays.
    "TR": (2026, "01-01 03-20 03-21 03-22 04-23 05-01 05-19 05-27 05-28 05-29 05-30 07-15 08-30 10-29"),
    # https://www8.cao.go.jp/chosei/shukujitsu/gaiyou.html
    "JP": (
        2026,
        "01-01 01-12 02-11 02-23 03-20 04-29 05-03 05-04 05-05 05-06 07-20 08-11 09-21 09-22 09-23 10-12 11-03 11-23",
    ),
    # https://www.legislation.govt.nz, Holidays Act 2003: Christmas Day and Boxing Day are moved for most.
    "NZ": (2027, "01-01 01-02 01-04 02-06 02-08 03-26 03-29 04-25 04-26 06-07 06-25 10-25 12-25 12-26 12-27 12-28"),
    "DE-BY": (2026, "01-01 01-06 04-03 04-06 05-01 05-14 05-25 06-04 10-03 11-01 12-25 12-26"),
    "FR": (2026, "01-01 04-06 05-01 05-08 05-14 05-25 07-14 08-15 11-01 11-11 12-25"),
}


@pytest.mark.parametrize("code", PUBLISHED)
def test_published_lists(code: str) -> None:
    """A year's public holidays are those of the published list, all of them and no others."""
    year, days = PUBLISHED[code]
    assert days.split() == sorted(f"{day:%m-%d}" for day in holidays_of(code, year))


@pytest.mark.parametrize(
    ("code", "days"),
    [
        ("GB", "2026-01-01 2026-12-26 2026-12-28 2027-12-25 2027-12-27 2027-12-28"),
        ("US", "2026-07-03 2026-07-04 2027-12-24 2027-12-25 2026-10-12 2027-12-31 2023-01-02"),
        ("AU", "2027-12-25 2027-12-27 2026-12-28 2022-01-03 2022-09-22"),
        ("AU-NSW", "2027-12-25 2027-12-27 2027-12-28 2026-06-08"),
        ("AU-WA", "2026-04-27 2026-09-28"),
        ("NZ", "2027-12-25 2027-12-27 2026-07-10"),
        ("ZA", "2026-08-09 2026-08-10 2027-03-22 2022-05-02 2022-12-27 2023-12-15"),
        ("RU", "2025-01-08 2026-01-08 2027-01-08 2026-03-09"),
        ("TR", "2026-03-20 2026-03-21 2026-05-27 2026-05-30 2025-03-30 2025-06-06"),
        ("JP", "2026-05-03 2026-05-06 2025-05-06"),
        ("SA", "2025-03-30 2025-06-06"),
        ("ID", "2025-03-29 2025-03-31 2025-06-06"),
        ("CN", "2026-02-17 2026-10-01"),
        ("IN", "2026-01-26 2026-08-15"),
        ("IL", "2026-09-12 2026-09-21"),
        ("KR", "2026-02-17 2026-09-25"),
        ("CA", "2026-07-01 2026-12-25"),
        ("IE", "2026-02-02 2026-08-03"),
        ("ES", "2026-01-06 2026-12-25"),
        ("BR", "2026-09-07 2026-04-21"),
    ],
)
def test_known_days(code: str, days: str) -> None:
    """Weekend, Islamic, lunar, observed and one-off holidays are known."""
    wanted = [date.fromisoformat(day) for day in days.split()]
    assert wanted == [day for day in wanted if day in holidays_of(code, day.year)]


def test_the_version_of_the_data() -> None:
    """The version that snapshots name is that of the package."""
    assert holidays.__version__ == data_version()  # type: ignore[attr-defined]
