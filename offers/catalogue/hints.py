"""Hints about a catalogue document without faults: hours that others read differently."""

from collections.abc import Iterator
from pathlib import Path

from offers.catalogue import document
from offers.catalogue.check import Checked
from offers.catalogue.document.nodes import Path as FieldPath
from offers.catalogue.hours.readings import difference
from offers.catalogue.rules.survey import place_of
from offers.v1.catalog_pb2 import Catalog

_ANY_COUNTRY = "FR"
"""The country of holidays where only a place of an offer names one."""


def hints(source: Path, checked: Checked) -> Iterator[str]:
    """Yield a line for each of the distinct hours that opening_hours.js reads differently, with its first place."""
    head = checked.catalog.country_code or _ANY_COUNTRY
    if not any(difference(expression, head) for expression in checked.hours):
        return  # the document need not be read once more
    told: set[str] = set()
    for fragment in document.read(source, []):
        for path, expression, country in _hours_of(fragment.catalog):
            if expression not in told and (reading := difference(expression, country or head)):
                told.add(expression)
                yield f"{place_of(fragment, path)}: '{expression}': {reading}"


def _hours_of(catalog: Catalog) -> Iterator[tuple[FieldPath, str, str]]:
    """Yield the hours of a fragment: their path, the hours, and the country of their holidays, if they name it."""
    for index, venue in enumerate(catalog.venues):
        yield ("venues", index, "opening_hours"), venue.opening_hours, venue.country_code
    for index, daypart in enumerate(catalog.dayparts):
        yield ("dayparts", index, "opening_hours"), daypart.opening_hours, ""
    for index, policy in enumerate(catalog.contact_policies):
        yield ("contact_policies", index, "quiet_hours"), policy.quiet_hours, ""
    for index, offer in enumerate(catalog.offers):
        country = offer.availability.country_code
        yield ("offers", index, "availability", "opening_hours"), offer.availability.opening_hours, country
        yield ("offers", index, "redemption", "opening_hours"), offer.redemption.opening_hours, country
