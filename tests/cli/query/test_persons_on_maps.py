"""Maps of answers to persons: segments, caps and consent are on them, and no served document is blamed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from offers.cli.query import mapping
from offers.cli.query.document import Document, read_document
from offers.cli.query.geojson import OfferMap, OtherCatalogError
from offers.cli.query.options import MapOptions, WhatOptions
from offers.client import OffersClient, context, person
from offers.learning.propensity.features import default_features
from offers.model.query import Query, Surface
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING
from offers.v1.event_pb2 import Event, Impression
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.offer_service_pb2 import (
    REASON_CODE_TOO_FAR,
    ExplainOffersRequest,
    ExplainOffersResponse,
    FailedCheck,
    GetOffersRequest,
    GetOffersResponse,
    OfferExplanation,
    Proposition,
)
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import UpdateProfileRequest
from tests.cli.running import Outcome, Run
from tests.decision.made_models import model_of, online

CATALOGUE = """
catalog_id: regulars
time_zone: Europe/Paris
segments:
  - {segment_id: regular, expression: profile.attributes.visits >= 10.0}
venues:
  - {venue_id: bar, title: The bar, point: {latitude: 48.8674, longitude: 2.3636}, radius_m: 1500}
ranking_strategies:
  - {ranking_strategy_id: learned, weights: {propensity: 1}}
placements:
  - placement_id: explored
    ranking_strategy_id: learned
    exploration: {method: METHOD_EPSILON_GREEDY, epsilon: 1, max_loss: 0.99}
    max_offers: 1
offers:
  - {offer_id: plain, title: Plain, benefit: {percent_off: 5}, target: {venue_ids: [bar]}}
  - {offer_id: for-regulars, title: For regulars, benefit: {percent_off: 5}, target: {venue_ids: [bar]},
     audience: {all_segment_ids: [regular]}}
  - {offer_id: capped, title: Once an hour, benefit: {percent_off: 5}, target: {venue_ids: [bar]},
     frequency_caps: [{max_count: 1, rolling: 3600s}]}
"""
AGREED = (CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING)
FEATURES = default_features(("offer.id",), 12)
LEARNED = online(FEATURES, 3)
PLACE = ("--lat", "48.8674", "--lng", "2.3636")


class Seen(NamedTuple):
    """A command that wrote a map, and the offers on it."""

    outcome: Outcome
    offers: dict[str, dict[str, Any]]


See = Callable[..., Seen]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the catalogue."""
    path = tmp_path_factory.mktemp("catalogue") / "regulars.yaml"
    path.write_text(CATALOGUE, "utf-8")
    return path


@pytest.fixture(scope="module")
def served(source: Path) -> Iterator[Served]:
    """Serve the catalogue; Ada comes often, and has just seen an offer."""
    ada, profile = person(user_id="ada", consent=AGREED), Profile()
    profile.attributes["visits"] = 12
    event = Event(event_id="e", user=ada, offer_id="capped", impression=Impression())
    with serving(source) as running, OffersClient(running.target) as client:
        event.event_time.GetCurrentTime()
        client.update_profile(UpdateProfileRequest(user=ada, profile=profile))
        (result,) = client.report_events(ReportEventsRequest(events=[event])).results
        assert not result.HasField("status")
        running.worker.live.use_model(model_of({f"click.{name}": one for name, one in LEARNED.items()}, FEATURES))
        yield running


@pytest.fixture
def see(offers: Run, served: Served, source: Path, tmp_path: Path) -> See:
    """Ask for a map, and read it."""

    def run(*arguments: str) -> Seen:
        file = tmp_path / "seen.geojson"
        outcome = offers("query", "--target", served.target, *arguments, "--map", file, "--catalog", source)
        assert 0 == outcome.status, outcome.err
        told = [one["properties"] for one in json.loads(file.read_bytes())["features"]]
        return Seen(outcome, {one["offer_id"]: one for one in told if one["kind"] == "place"})

    return run


def test_a_person_with_consent_has_their_segments_and_caps_on_the_map(see: See) -> None:
    """The offer of the segment is green; the offer whose cap is reached is grey, and says so."""
    seen = see(*PLACE, "--user", "ada", "--consent", "contextual,profiling").offers

    assert "returned" == seen["for-regulars"]["verdict"]
    assert ["frequency cap reached"] == seen["capped"]["reasons"]


@pytest.mark.parametrize("consent", [(), ("--consent", "contextual"), ("--consent", "none")])
def test_a_person_without_consent_has_none_of_it(see: See, consent: tuple[str, ...]) -> None:
    """Nothing stored counts, and a note on stderr says that this is for want of consent."""
    outcome, seen = see(*PLACE, "--user", "ada", *consent)
    place = "needs a location" if "none" in consent else ""

    assert ("returned" == seen["capped"]["verdict"]) == (not place)
    assert "not in its segments" in seen["for-regulars"]["reasons"]
    assert "ada has not agreed to profiling: caps, cool-downs and segments see nothing" in outcome.err
    assert ("as --consent says" in outcome.err) == bool(consent)
    assert ("--consent contextual,profiling asks as if they had agreed" in outcome.err) == (not consent)
    assert ("contextual: the location is not used" in outcome.err) == bool(place)


def test_an_explored_answer_has_its_map(see: See) -> None:
    """The answer and its explanations are one draw: the map is that of the answer, whichever it is."""
    returned = set()
    for _ in range(8):
        outcome, seen = see(*PLACE, "--placement", "explored", "--json")
        (wanted,) = (one["offer_id"] for one in json.loads(outcome.out)["offers"])
        assert [wanted] == [name for name, one in seen.items() if one["verdict"] == "returned"]
        returned.add(wanted)
    assert {"plain", "capped"} == returned


def test_without_a_server_no_document_is_blamed(offers: Run, source: Path, tmp_path: Path) -> None:
    """A map of no answer is not written: exit status 3, and how to start a server."""
    file = tmp_path / "seen.geojson"
    outcome = offers("query", *PLACE, "--target", "127.0.0.1:1", "--map", file, "--catalog", source)

    assert (3, "") == (outcome.status, outcome.out)
    assert "no server at 127.0.0.1:1: start one with 'offers serve'" in outcome.err
    assert not file.exists()


def test_the_document_names_the_catalogue_to_ask(offers: Run, served: Served, source: Path) -> None:
    """--catalog and --catalog-id ask for the same catalogue, together or alone."""
    for asked in (
        ("--catalog", source),
        ("--catalog-id", "regulars"),
        ("--catalog", source, "--catalog-id", "regulars"),
    ):
        assert 0 == offers("query", "--target", served.target, *PLACE, *asked).status


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--catalog", "regulars"), "to ask for a catalogue by its id, give --catalog-id regulars"),
        (("--catalog-id", "others"), "give one of the two"),
        (
            ("--consent", "marketing"),
            "'marketing' is not one of contextual, profiling, learning, messaging; none",
        ),
        (("--consent", ","), "names no purpose"),
        (("--consent", "profiling"), "give --user or --anonymous too"),
    ],
)
def test_what_cannot_be_meant_is_told_before_asking(
    offers: Run, source: Path, asked: tuple[str, ...], told: str
) -> None:  # fmt: skip
    """An id given as a document, another id than the document's, unknown purposes, and consent of nobody: status 2."""
    document = ("--catalog", source) if asked[0] == "--catalog-id" else ()
    outcome = offers("query", "--target", "127.0.0.1:1", *asked, *document)

    assert 2 == outcome.status
    assert told in " ".join(outcome.err.replace("│", " ").split())


def read(source: Path) -> Document:
    """Read a document as the command does."""
    document = read_document(WhatOptions(catalog=source), MapOptions())
    assert document is not None
    return document


def test_a_served_document_is_not_blamed(source: Path) -> None:
    """Where versions are equal a verdict that differs is no fault of the document; where they differ it may be."""
    catalog = read(source).catalog
    response = GetOffersResponse(offers=[Proposition(offer_id="plain", rank=1, score=0.5)])
    explanations = {one.offer_id: OfferExplanation(offer_id=one.offer_id) for one in catalog.offers}
    explanations["plain"].rank = 1
    explanations["capped"].failed_checks.append(FailedCheck(reason=REASON_CODE_TOO_FAR, detail="by a hair"))
    query = Query(Surface(), 1_795_521_930, 48.8674, 2.3636)

    kinds = [
        one["properties"]["kind"]
        for one in OfferMap(catalog, query, response, 5_000, is_served=True).features(explanations)
    ]
    assert 3 == kinds.count("place")
    with pytest.raises(OtherCatalogError, match="about capped"):
        OfferMap(catalog, query, response, 5_000).features(explanations)


def test_explanations_of_another_answer_make_no_map(source: Path, served: Served) -> None:
    """The map is that of one answer: explanations of another one are not mixed in."""
    document = read(source)
    moment = context(lat=48.8674, lng=2.3636)
    moment.time.seconds = 1_795_521_930
    request = GetOffersRequest(context=moment, catalog="regulars", request_id="r")
    with OffersClient(served.target) as client:
        response = client.get_offers(request)

        def other(asked: ExplainOffersRequest) -> ExplainOffersResponse:
            explained = client.explain(asked)
            del explained.response.offers[:]
            return explained

        assert mapping.drawn(document, request, response, 5_000, other) is None
        assert mapping.drawn(document, request, response, 5_000, client.explain)
    assert document.version == response.catalog_version


def test_a_changing_answer_ends_without_a_map(
    offers: Run, served: Served, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three answers that changed while they were explained, the command says so and writes nothing."""
    tries: list[str] = []

    def changed(*_arguments: object) -> None:
        tries.append("again")

    monkeypatch.setattr("offers.cli.query.mapping.drawn", changed)
    file = tmp_path / "seen.geojson"
    outcome = offers("query", "--target", served.target, *PLACE, "--map", file, "--catalog", source)

    assert 1 == outcome.status
    assert "the answer changed while it was explained, again and again" in outcome.err
    assert 3 == len(tries)
    assert not file.exists()
