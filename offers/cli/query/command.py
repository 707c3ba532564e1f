"""`offers query`: the command itself."""

from collections.abc import Sequence
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from offers.cli.options import grouped
from offers.cli.output import fail, stdout
from offers.cli.query.consent import notes
from offers.cli.query.document import Document, read_document
from offers.cli.query.options import (
    AnswerOptions,
    MapOptions,
    WhatOptions,
    WhenOptions,
    WhereOptions,
    WhoOptions,
)
from offers.cli.query.request import moment_of, request_of, zone_of
from offers.cli.server import ServerOptions, calling

if TYPE_CHECKING:
    from offers.cli.query.geojson import Feature
    from offers.client import OffersClient
    from offers.v1.offer_service_pb2 import ExplainOffersResponse, GetOffersRequest

ATTEMPTS = 3
"""Attempts to have an answer and its map alike: budgets and models may change between two calls."""


@grouped
def query(
    where: WhereOptions,
    when: WhenOptions,
    who: WhoOptions,
    what: WhatOptions,
    answer: AnswerOptions,
    map_: MapOptions,
    server: ServerOptions,
) -> None:
    """Ask a running server for the offers of one context, best first.

    With --map, places near the location are written to a GeoJSON file, each
    with its offer and the verdict on it; green is returned, grey is not.

    Exit status 2: the server refuses the request; 3: there is no server.
    """
    zone = zone_of(when.time_zone)
    is_fixed = bool(map_.map_ or answer.explain)
    moment = moment_of(where, when, who, what, zone, is_fixed=is_fixed)
    document = read_document(what, map_)
    catalog_id = what.catalog_id if document is None else document.catalog.catalog_id
    request = request_of(moment, what, answer, catalog_id, is_fixed=is_fixed)
    with calling(server) as client:
        features: Sequence[Feature] | None = None
        for _ in range(ATTEMPTS):
            explained = _ask(client, request, answer.explain or (), server.timeout)
            if document is None or map_.map_ is None:
                break
            features = _drawn(document, client, request, explained, map_, server.timeout)
            if features is not None:
                break
        _print(request, explained, answer, zone)
        notes(client, request, explained, server.timeout)
    if map_.map_ is not None:
        _write(map_.map_, features)


def _ask(
    client: "OffersClient", request: "GetOffersRequest", offer_ids: Sequence[str], timeout_s: float
) -> "ExplainOffersResponse":  # fmt: skip
    """Return the answer to a request, with explanations of some offers. Raises OffersCallError."""
    from offers.v1.offer_service_pb2 import ExplainOffersRequest, ExplainOffersResponse

    if offer_ids:
        return client.explain(ExplainOffersRequest(request=request, offer_ids=offer_ids), timeout_s=timeout_s)
    return ExplainOffersResponse(response=client.get_offers(request))


def _drawn(
    document: Document, client: "OffersClient", request: "GetOffersRequest", explained: "ExplainOffersResponse",
    wanted: MapOptions, timeout_s: float,
) -> "Sequence[Feature] | None":  # fmt: skip
    """Return the map of an answer; None: the server answers otherwise by now."""
    from offers.cli.query.mapping import drawn

    explain = partial(client.explain, timeout_s=timeout_s)
    return drawn(document, request, explained.response, wanted.map_radius, explain)


def _write(file: Path, features: "Sequence[Feature] | None") -> None:
    """Write a map; None: the answer was another one each time."""
    from offers.cli.query.mapping import write

    if features is None:
        raise typer.Exit(fail("the answer changed while it was explained, again and again: no map is written"))
    write(file, features)


def _print(
    request: "GetOffersRequest", explained: "ExplainOffersResponse", answer: AnswerOptions, zone: tzinfo | None
) -> None:  # fmt: skip
    """Print an answer, and its explanations where they were asked for."""
    from google.protobuf.json_format import MessageToJson

    from offers.cli.query import explanation, table

    if answer.as_json:
        told = explained if answer.explain else explained.response
        typer.echo(MessageToJson(told, preserving_proto_field_name=True, ensure_ascii=False))
        return
    table.show(request, explained.response, zone)
    if answer.explain:
        explanation.show(stdout(), explained.explanations)
