"""The printed form of an answer: a table of its offers, the factors of their scores, and how long it holds."""

import math
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from offers.cli.output import stderr, stdout
from offers.cli.words import benefit_words, distance_words, factor_name, local, reason_words, until_words

if TYPE_CHECKING:
    from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse, Proposition


def show(request: "GetOffersRequest", response: "GetOffersResponse", zone: tzinfo | None) -> None:
    """Print an answer as a table, the factors of its scores, and how long it holds."""
    console, moment = stdout(), request.context
    asked = local(moment.time.seconds, zone) if moment.HasField("time") else datetime.now(zone).astimezone(zone)
    if response.offers:
        console.print(_offers(request, response, asked, zone))
    else:
        console.print("No offer qualifies here and now.")
    for offer in response.offers:
        if offer.factors:
            console.print(_factors(offer))
    model = f" · model {response.model_version}" if response.model_version else ""
    console.print(
        f"{response.eligible_count:,} eligible · catalogue version {response.catalog_version}{model} · "
        f"{_holds(response, asked, zone)}"
    )
    for missing in response.degraded:
        stderr().print(Text(f"degraded: without {missing.dependency}: {missing.rule}"))


def _offers(
    request: "GetOffersRequest", response: "GetOffersResponse", asked: datetime, zone: tzinfo | None
) -> Table:  # fmt: skip
    """Return the table of the offers of an answer."""
    location = request.context.location
    place = "nowhere in particular"
    if request.context.HasField("location"):
        place = f"{location.point.latitude:g}, {location.point.longitude:g}"
    table = Table(title=f"{place} · {asked:%a %-d %b %Y %H:%M} {zone or asked.tzname()}", title_justify="left")
    for heading, right in (("", True), ("offer", False), ("benefit", False), ("distance", True), ("why", False),
                           ("valid until", True), ("score", True)):  # fmt: skip
        table.add_column(heading, justify="right" if right else "left")
    for offer in response.offers:
        far = distance_words(offer.distance_m) if offer.HasField("distance_m") else ""
        words = (offer.title, benefit_words(offer.benefit), far, reason_words(offer), until_words(offer, asked, zone))
        table.add_row(str(offer.rank), *map(Text, words), f"{offer.score:#.3g}")
    return table


def _holds(response: "GetOffersResponse", asked: datetime, zone: tzinfo | None) -> str:
    """Word how long, and within which distance, an answer holds."""
    end = local(response.refresh_after.seconds, zone)
    holds = f"holds until {end:%H:%M:%S}" if end.date() == asked.date() else f"holds until {end:%a %-d %b %H:%M:%S}"
    if response.HasField("refresh_distance_m"):
        holds += f" and within {distance_words(math.floor(response.refresh_distance_m))}"
    return holds


def _factors(offer: "Proposition") -> Table:
    """Return the table of the factors of a score: their contributions add up to its logarithm."""
    table = Table("factor", title=Text(f"{offer.rank}. {offer.title}"), title_justify="left", show_footer=True)
    table.add_column("value ^ weight", footer=f"score {offer.score:#.3g}", justify="right")
    total = sum(factor.log_contribution for factor in offer.factors)
    table.add_column("log contribution", footer=f"{total:+.4f}", justify="right")
    for factor in offer.factors:
        table.add_row(factor_name(factor), f"{factor.value:.4f} ^ {factor.weight:g}", f"{factor.log_contribution:+.4f}")
    if offer.HasField("selection_probability"):
        table.caption = f"in {offer.selection_probability:.0%} of such answers, as exploration draws"
    return table
