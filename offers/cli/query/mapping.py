"""The map of an answer: the server's explanations of the offers on it, and the file it is written to."""

from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from offers.cli.output import fail, stderr
from offers.cli.query.document import Document
from offers.cli.query.geojson import Feature, OfferMap, write_map
from offers.server.convert import query_of
from offers.v1.offer_service_pb2 import (
    ExplainOffersRequest,
    ExplainOffersResponse,
    GetOffersRequest,
    GetOffersResponse,
    OfferExplanation,
)

BATCH = 200
"""Offers that the server explains in one call for a map: some tenths of a second of its time."""
Explain = Callable[[ExplainOffersRequest], ExplainOffersResponse]


def drawn(
    document: Document, request: GetOffersRequest, response: GetOffersResponse, radius_m: float, explain: Explain
) -> list[Feature] | None:
    """Return the features of the map of an answer; None: the server answers otherwise by now, so ask it again.

    Raises OffersCallError, and OtherCatalogError where the server does not serve the document.
    """
    with stderr().status("working out the map"):
        is_served = document.version == response.catalog_version
        query = query_of(request, request.context.time.seconds)
        map_ = OfferMap(document.catalog, query, response, radius_m, is_served=is_served)
        explanations = _explanations(explain, request, response, map_.offer_ids)
        return None if explanations is None else map_.features(explanations)


def write(file: Path, features: Sequence[Feature]) -> None:
    """Write a map, and tell what is on it."""
    try:
        write_map(file, features)
    except OSError as error:
        raise typer.Exit(fail(f"cannot write {file}: {error.strerror}")) from None
    places = [one["properties"] for one in features if one["properties"]["kind"] == "place"]
    shown = sum(one["verdict"] == "returned" for one in places)
    typer.echo(f"{len(places):,} places near, {shown:,} returned; written to {file}", err=True)


def _explanations(
    explain: Explain, request: GetOffersRequest, response: GetOffersResponse, offer_ids: Sequence[str]
) -> dict[str, OfferExplanation] | None:
    """Return the server's explanations of some offers, by id; None where they are of another answer."""
    found = {}
    for begin in range(0, len(offer_ids), BATCH):
        asked = ExplainOffersRequest(request=request, offer_ids=offer_ids[begin : begin + BATCH])
        explained = explain(asked)
        if _shown(explained.response) != _shown(response):
            return None
        found.update({one.offer_id: one for one in explained.explanations})
    return found


def _shown(response: GetOffersResponse) -> tuple[str, list[str]]:
    """Return what must be the same in an answer and in its explanations."""
    return response.catalog_version, [one.offer_id for one in response.offers]
