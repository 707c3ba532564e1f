"""Commands as their users meet them, and a catalogue to run them on."""

from collections.abc import Callable
from typing import NamedTuple

CATALOGUE = """
catalog_id: test
time_zone: Europe/Paris
zones:
  - {zone_id: centre, circles: [{center: {latitude: 48.86, longitude: 2.35}, radius_m: 5000}]}
placements:
  - {placement_id: home, channel: app}
offers:
  - offer_id: lunch
    title: Lunch [of the day]
    benefit: {percent_off: 20}
    target: {circles: [{center: {latitude: 48.8674, longitude: 2.3636}, radius_m: 1500}]}
    availability: {opening_hours: "Mo-Fr 12:00-13:00"}
  - offer_id: delivery
    title: Free delivery
    benefit: {free_delivery: {}, minimum_order: {currency_code: EUR, units: 15}}
    target: {zone_ids: [centre]}
    availability: {windows: [{start_time: "2026-01-01T00:00:00Z", end_time: "2026-12-01T00:00:00Z"}]}
  - offer_id: welcome
    title: Welcome
    benefit: {amount_off: {currency_code: EUR, units: 5}}
    target: {everywhere: true}
  - offer_id: last
    title: Always something
    benefit: {custom: a smile}
    target: {everywhere: true}
    fallback: true
"""
PARIS_NOON = ("--lat", "48.87", "--lng", "2.3636", "--at", "2026-11-24 12:15", "--time-zone", "Europe/Paris")


class Outcome(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


def row(outcome: Outcome, title: str) -> list[str]:
    """Give the cells of the one row of a table that has this title."""
    (line,) = (line for line in outcome.out.splitlines() if f" {title} " in line and "│" in line)
    return [cell.strip() for cell in line.strip("│").split("│")]
