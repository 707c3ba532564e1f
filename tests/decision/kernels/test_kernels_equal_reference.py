"""The compiled decision and its plain-Python reference give the same answers on random catalogues and requests."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path

from google.type.latlng_pb2 import LatLng
from hypothesis import given, settings

from offers.catalogue.document import write_document
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.decision.reference import decide as reference
from offers.decision.reference import places as reference_places
from offers.decision.reference.decide import Ranked
from offers.decision.reference.people import NOBODY, KnownPerson
from offers.model.query import Query
from offers.server.convert import query_of
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse, Proposition
from offers.v1.venue_pb2 import Circle
from tests import strategies

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - files that need not reach a disk
NEAR_M = 1e-6
"""Closer to an edge, or to a tie between two places, rounding may decide."""
ROUNDING = 1e-10
"""A tenth of a millimetre of a factor that falls by its whole within a kilometre or more."""
NEAR_CHANCE = 1e-6
NEAR_SCORE = 1e-6
"""Scores (logarithms) that differ by less may be put in either order, unless their factors are the very same."""


@contextmanager
def engine_of(catalog: Catalog) -> Iterator[Engine]:
    """Compile a catalogue as a server does, and open it."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        document = Path(folder, "catalog.binpb")
        write_document(document, catalog)
        published = publish(document, Path(folder))
        yield Engine(open_snapshot(published.path))


@contextmanager
def service_of(catalog: Catalog) -> Iterator[OfferService]:
    """Compile a catalogue as a server does, and answer from it."""
    with engine_of(catalog) as engine:
        yield OfferService(Live([engine]), lambda: 0.0)


def undecided(catalog: Catalog, query: Query) -> bool:
    """Return whether a location is on an edge, or equally far from two places of an offer, up to rounding."""
    here = LatLng(latitude=query.latitude, longitude=query.longitude)
    for offer in catalog.offers:
        target = offer.target
        least = target.min_inside_probability if target.HasField("min_inside_probability") else 0.5
        away: list[tuple[float, tuple[float, float]]] = []
        for place in reference_places.places_of(catalog, offer):
            for piece in (place.piece, *place.cuts):
                if isinstance(piece, Circle):
                    distance = reference_places.distance_m(here, piece.center)
                    if abs(distance - piece.radius_m) < NEAR_M:
                        return True
                    away.append((distance, _place(piece)))
            if query.sigma_m and abs((reference_places.chance_inside(place, query) or 0) - least) < NEAR_CHANCE:
                return True
        if any(one[0] - other[0] > -NEAR_M and one[1] != other[1] for one, other in pairwise(sorted(away))):
            return True
    return False


def _place(circle: Circle) -> tuple[float, float]:
    return circle.center.latitude, circle.center.longitude


def check_one(catalog: Catalog, wanted: Ranked, got: Proposition, here: LatLng) -> None:
    """Hold everything said of an offer against the reference."""
    assert wanted.distance_m is None or math.isclose(wanted.distance_m, got.distance_m, rel_tol=1e-9, abs_tol=NEAR_M)
    assert (wanted.distance_m is not None) == got.HasField("distance_m")
    is_placed = here.latitude or here.longitude
    if wanted.venue_id != got.venue_id and is_placed:  # another venue at the very same place is as good
        points = {venue.venue_id: venue.point for venue in catalog.venues}
        assert bool(wanted.venue_id) <= bool(wanted.distance_m is not None)
        if got.venue_id:
            assert math.isclose(
                wanted.distance_m or 0, reference_places.distance_m(here, points[got.venue_id]), abs_tol=NEAR_M
            )
        if wanted.venue_id and not got.venue_id:
            assert points[wanted.venue_id] in [circle.center for circle in strategies.reaches(catalog)]
    assert wanted.valid_until == (got.valid_until.seconds if got.HasField("valid_until") else None)
    assert wanted.redeemable == got.redeemable_now
    logs = [factor.log_contribution for factor in got.factors]
    # The less is left of a factor, the more a tenth of a millimetre is to it, in which the distances agree.
    rounding = ROUNDING / wanted.factors[0][0]
    assert math.isclose(math.log(got.score), math.fsum(logs), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(wanted.log_score, math.fsum(logs), rel_tol=1e-9, abs_tol=NEAR_SCORE + 2 * rounding)
    for (value, weight), factor in zip(wanted.factors, got.factors, strict=True):
        assert math.isclose(value, factor.value, rel_tol=1e-6 + rounding)
        assert weight == factor.weight


def check_order(wanted: list[Ranked], got: list[str]) -> None:
    """Hold an order against the reference's: exactly, but where only rounding tells two scores apart."""
    start = 0
    runs: list[list[Ranked]] = []
    for one in wanted:
        if runs and runs[-1][-1].log_score - one.log_score < NEAR_SCORE:
            runs[-1].append(one)
        else:
            runs.append([one])
    for run in runs:
        ours = got[start : start + len(run)]
        names = [one.offer_id for one in run]
        same = len(list(groupby((one.factors, one.distance_m) for one in run))) == 1
        assert names[: len(ours)] == ours if same else set(ours) <= set(names)
        start += len(run)


def check(
    catalog: Catalog, service: OfferService, request: GetOffersRequest, known: KnownPerson = NOBODY
) -> GetOffersResponse | None:
    """Ask both for one answer, hold them equal, and return it; None if only rounding decides."""
    here, query = request.context.location.point, query_of(request, 0)
    if request.context.HasField("location") and undecided(catalog, query):
        return None
    answer = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
    ranked, eligible = reference.ranked_for(catalog, query, known)
    best, everything = laid_out(catalog, query, ranked)
    assert eligible == answer.eligible_count
    assert len(best) == len(answer.offers)
    assert len({one.offer_id for one in answer.offers}) == len(answer.offers)
    check_order(everything, [one.offer_id for one in answer.offers])
    by_id = {one.offer_id: one for one in everything}
    for got in answer.offers:
        check_one(catalog, by_id[got.offer_id], got, here)
    return answer


def laid_out(catalog: Catalog, query: Query, ranked: list[Ranked]) -> tuple[list[Ranked], list[Ranked]]:
    """Return the reference's answer, and the answer of a placement without limits."""
    whole = Catalog(placements=catalog.placements, offers=catalog.offers)
    for placement in whole.placements:
        placement.ClearField("max_offers")
    most = query._replace(surface=query.surface._replace(max_offers=100))
    best, everything = (
        [one for one, limits in reference.laid_out(*asked, ranked) if not limits]
        for asked in ((catalog, query), (whole, most))
    )
    return best, everything


@settings(max_examples=40)
@given(strategies.makers, strategies.sizes)
def test_engine_equals_reference(maker: strategies.Maker, size: int) -> None:
    """The same offers in the same order, with the same venue, distance, end, score, factors and count."""
    hold_equal(maker, maker.catalog(size))


@settings(max_examples=40)
@given(strategies.makers, strategies.sizes)
def test_engine_equals_reference_for_usual_offers(maker: strategies.Maker, size: int) -> None:
    """The same holds for usual offers, of which a decision reads only the gates until they may be shown."""
    hold_equal(maker, maker.usual_catalog(size))


def test_hours_by_the_sun_are_those_of_each_area() -> None:
    """Areas side by side stay apart where the offer's hours name the sun, which rises in each at its own time."""
    maker = strategies.Maker(29481268)
    hold_equal(maker, maker.catalog(1))


def hold_equal(maker: strategies.Maker, catalog: Catalog) -> None:
    """Hold the engine's answers to some requests equal to the reference's."""
    with engine_of(catalog) as engine:
        service = OfferService(Live([engine]), lambda: 0.0)
        for number in range(20):
            if number == 10:  # half of them without anything worked out ahead, half with
                engine.roll(maker.instant(), math.inf)
            check(catalog, service, maker.request(catalog))
