"""The options of `offers query`, in groups."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from offers.model.query import MAX_OFFERS


class Moving(StrEnum):
    """How a person moves, by the names of TravelMode, which takes long to import."""

    WALKING = "walking"
    CYCLING = "cycling"
    TRANSIT = "transit"
    DRIVING = "driving"


class WhereOptions(NamedTuple):
    """The location of the person."""

    lat: Annotated[float | None, typer.Option(help="Latitude in degrees.")] = None
    lng: Annotated[float | None, typer.Option(help="Longitude in degrees.")] = None
    accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="METRES", min=0, help="Radius that holds the true position in 68 % of cases. \\[default: exact]"
        ),
    ] = None
    observed_at: Annotated[
        str,
        typer.Option(
            help="When the position was measured, written like --at; a time of day is on the day of --at. Its radius "
            "has grown since then. \\[default: at the instant asked for]"
        ),
    ] = ""
    moving: Annotated[
        Moving | None,
        typer.Option(help="How the person has moved since --observed-at. \\[default: walking]", show_default=False),
    ] = None


class WhenOptions(NamedTuple):
    """The instant asked for."""

    at: Annotated[
        str,
        typer.Option(
            help="Instant: 2026-11-24T12:15:00+01:00, or '2026-11-24 12:15' or 12:15 in the time zone. \\[default: now]"
        ),
    ] = ""
    time_zone: Annotated[
        str,
        typer.Option(
            help="The person's IANA time zone; the answer is printed by its clock. \\[default: the catalogue's, and "
            "this machine's clock]"
        ),
    ] = ""


class WhoOptions(NamedTuple):
    """The person, and their visit."""

    user: Annotated[str, typer.Option(help="Id of a signed-in person.")] = ""
    anonymous: Annotated[str, typer.Option(help="Id of a visitor who is not signed in.")] = ""
    consent: Annotated[
        str | None,
        typer.Option(
            metavar="PURPOSES",
            help="Purposes the person has agreed to: contextual, profiling, learning, messaging, separated by commas; "
            "or none. \\[default: as the server has it]",
        ),
    ] = None
    session: Annotated[str, typer.Option(help="Id of the visit.")] = ""
    session_start: Annotated[str, typer.Option(help="When the visit began, written like --at.")] = ""
    session_entry: Annotated[str, typer.Option(metavar="CHANNEL", help="How the person came, such as push.")] = ""
    language: Annotated[str, typer.Option(help="Language, such as fr or pt-BR.")] = ""
    currency: Annotated[str, typer.Option(help="Currency, such as EUR.")] = ""


class WhatOptions(NamedTuple):
    """The offers asked for."""

    channel: Annotated[str, typer.Option(help="Channel, such as app or email.")] = ""
    placement: Annotated[str, typer.Option(help="Placement to fill.")] = ""
    catalog: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Document that the server serves: ask for its catalogue. Needed for --map."),
    ] = None
    catalog_id: Annotated[
        str, typer.Option(metavar="ID", help="Catalogue to ask for, if the server serves several.")
    ] = ""
    max_offers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=MAX_OFFERS, help="Offers to return, from 1 to 100. \\[default: 10]"),
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Orders offers of equal score: 0 to 2^64 - 1.")] = None


class AnswerOptions(NamedTuple):
    """The form of the answer."""

    full: Annotated[bool, typer.Option("--full", help="Show the factors of each score.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as JSON.")] = False
    explain: Annotated[
        list[str] | None,
        typer.Option(metavar="OFFER_ID", help="Tell why an offer is in the answer, or why not; may be repeated."),
    ] = None


class MapOptions(NamedTuple):
    """The map of the answer."""

    map_: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.geojson",
            help="Write what was considered, and why it is in the answer or not, for a map viewer. Needs --catalog.",
        ),
    ] = None
    map_radius: Annotated[float, typer.Option(metavar="METRES", min=0, help="How far off places may be.")] = 5_000.0
