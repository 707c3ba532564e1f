"""Public holidays of countries and regions, from the holidays package.

The package is imported when hours first name public holidays (PH): that takes time and memory.
"""

import re
import warnings
from collections.abc import Iterable
from datetime import date
from functools import cache, lru_cache
from importlib.metadata import version

_YEARS = 8
"""Years that are read at once."""
_KNOWN_YEARS = range(2020, 2030)
"""Years of which one must have a holiday for a country or region to be known. All that have any have one in these."""
_REGION = re.compile("[A-Z0-9]{1,3}").fullmatch


@cache
def data_version() -> str:
    """Return the version of the package that holidays are read from."""
    return version("holidays")


@cache
def are_known(country_code: str) -> bool:
    """Return whether any public holidays are known for a country (ISO 3166-1) or region (ISO 3166-2)."""
    country, _, region = country_code.partition("-")
    if country not in _supported() or (region and country_code not in regions_of(country)):
        return False
    return any(holidays_of(country_code, year) for year in _KNOWN_YEARS)


@cache
def regions_of(country: str) -> list[str]:
    """Return the regions of a country whose public holidays are known, as codes of ISO 3166-2."""
    return sorted(f"{country}-{region}" for region in _supported().get(country, ()) if _REGION(region))


@cache
def _supported() -> dict[str, list[str]]:
    import holidays

    return holidays.list_supported_countries(include_aliases=False)


def load(country_code: str) -> None:
    """Load the holidays of a country or region for the coming years, so that no decision waits for them."""
    today = date.today()  # noqa: DTZ011 - a year more or less does not matter
    for year in range(today.year - 1, today.year + 3):
        holidays_of(country_code, year)


@lru_cache(maxsize=65_536)
def holidays_of(country_code: str, year: int) -> frozenset[date]:
    """Return the public holidays of a country or region in a year, with substitute days; none if it is unknown.

    A country's own are those of the package and each day that is a holiday in all of its regions. The first call takes
    some tenths of a second.
    """
    first = year - (year + _YEARS // 2) % _YEARS
    return frozenset(day for day in _days(country_code, first) if day.year == year)


@lru_cache(maxsize=4_096)
def _days(country_code: str, first: int) -> frozenset[date]:
    """Return the holidays of _YEARS years, and some of the years around them."""
    # A holiday of one year may be observed in another: New Year's Day on a Saturday is, on 31 December, in the US.
    years = range(first - 1, first + _YEARS + 1)
    own = _read(country_code, years)
    lacking: frozenset[date] | None = None
    for region in () if "-" in country_code else _supported().get(country_code, ()):
        days = _read(f"{country_code}-{region}", years) - own
        lacking = days if lacking is None else lacking & days
        if not lacking:
            break
    return own | (lacking or frozenset())


def _read(country_code: str, years: Iterable[int]) -> frozenset[date]:
    import holidays

    country, _, region = country_code.partition("-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about lunar holidays, whose future dates are estimates
        try:
            return frozenset(holidays.country_holidays(country, region or None, years=years, expand=False))
        except NotImplementedError:
            return frozenset()
