"""Decays have the numbers of Elasticsearch's function_score: its formulas, and what its documentation says of them.

The statements are those of the reference (query-dsl-function-score-query, "Decay functions") and of the guide ("The
closer, the better").
"""

import math
from random import Random

import pytest
from geopy.distance import geodesic
from google.protobuf.timestamp_pb2 import Timestamp

from offers.server.offer_service import OfferService
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer
from offers.v1.offer_service_pb2 import (
    FACTOR_NAME_NEARNESS,
    FACTOR_NAME_TIMELINESS,
    VIEW_FULL,
    GetOffersRequest,
    GetOffersResponse,
    Proposition,
)
from offers.v1.ranking_pb2 import Decay, RankingStrategy
from tests.decision.kernels.test_kernels_equal_reference import service_of

NOW = 1_781_524_800
DAY_S = 86_400
HERE = (48.8674, 2.3636)
GAUSS, EXP, LINEAR = Decay.SHAPE_GAUSS, Decay.SHAPE_EXP, Decay.SHAPE_LINEAR
LEAST = 1e-12
"""Where Elasticsearch's linear decay is 0, ours has its minimum."""


def elasticsearch(decay: Decay, value: float) -> float:
    """Return the value of Elasticsearch's published formulas."""
    beyond = max(0.0, abs(value - decay.origin) - decay.offset)
    if decay.shape == GAUSS:
        sigma_squared = -(decay.scale**2) / (2 * math.log(decay.decay))
        return math.exp(-(beyond**2) / (2 * sigma_squared))
    if decay.shape == EXP:
        lam = math.log(decay.decay) / decay.scale
        return math.exp(lam * beyond)
    s = decay.scale / (1.0 - decay.decay)
    return max((s - beyond) / s, 0.0)


def offer(identity: str, distance_m: float, ends_in_s: int) -> Offer:
    """Return an offer around a point some way to the north-east, which ends in a number of seconds."""
    made = Offer(offer_id=identity, title="a", benefit=Benefit(custom="a"))
    centre = geodesic(meters=distance_m).destination(HERE, bearing=45)
    circle = made.target.circles.add(radius_m=distance_m + 1_000)
    circle.center.latitude, circle.center.longitude = centre.latitude, centre.longitude
    made.availability.windows.add(end_time=Timestamp(seconds=NOW + ends_in_s))
    return made


def catalog_of(decays: list[Decay], offers: list[Offer]) -> Catalog:
    """Return a catalogue with a placement per decay, named by its index, that ranks distance and time by it."""
    catalog = Catalog(catalog_id="decays", offers=offers)
    for number, decay in enumerate(decays):
        strategy = RankingStrategy(ranking_strategy_id=str(number), nearness=decay, timeliness=decay)
        catalog.ranking_strategies.append(strategy)
        catalog.placements.add(placement_id=str(number), ranking_strategy_id=str(number))
    return catalog


def asked(service: OfferService, placement: int) -> dict[str, Proposition]:
    """Return all offers of a placement by id, with their factors."""
    request = GetOffersRequest(placement=str(placement), max_offers=100, view=VIEW_FULL)
    request.context.time.seconds = NOW
    request.context.location.point.latitude, request.context.location.point.longitude = HERE
    answer = GetOffersResponse.FromString(service.get_offers(request.SerializeToString()))
    return {one.offer_id: one for one in answer.offers}


def factors(shown: Proposition) -> dict[int, float]:
    """Return an offer's factors by name."""
    return {factor.name: factor.value for factor in shown.factors}


def decay_of(
    shape: "Decay.Shape.ValueType", origin: float, offset: float, scale: float, decay: float = 0.5, least: float = LEAST
) -> Decay:
    """Return a decay; as in Elasticsearch, it is one half at `scale` by default."""
    return Decay(shape=shape, origin=origin, offset=offset, scale=scale, decay=decay, minimum=least)


def test_decays_follow_the_published_formulas() -> None:
    """Nearness and timeliness follow the formulas for usual and random parameters, down to `minimum`."""
    random = Random(51)
    decays = [
        decay_of(shape, origin, offset, scale, decay)
        for shape in (GAUSS, EXP, LINEAR)
        for origin in (0.0, 1_000.0)
        for offset in (0.0, 500.0)
        for scale in (100.0, 2_000.0, 50_000.0)
        for decay in (0.01, 0.5, 0.99)
    ]
    decays += [
        decay_of(
            random.choice([GAUSS, EXP, LINEAR]),
            random.choice([0.0, 10 ** random.uniform(0, 5)]),
            random.choice([0.0, 10 ** random.uniform(0, 5)]),
            10 ** random.uniform(0, 5.5),
            random.uniform(0.001, 0.999),
        )
        for _ in range(300)
    ]
    reaches = [0.0, 500.0, 1_000.0, 2_000.0] + [10 ** random.uniform(0, 5) for _ in range(30)]
    ends_in = {str(number): 1 + int(10 ** random.uniform(0, 5.5)) for number in range(len(reaches))}
    offers = [offer(name, reach, ends) for reach, (name, ends) in zip(reaches, ends_in.items(), strict=True)]
    between = 0
    with service_of(catalog_of(decays, offers)) as service:
        for number, decay in enumerate(decays):
            answer = asked(service, number)
            assert len(offers) == len(answer)
            for name, shown in answer.items():
                for value, factor in (
                    (shown.distance_m, FACTOR_NAME_NEARNESS),
                    (ends_in[name], FACTOR_NAME_TIMELINESS),
                ):
                    wanted = elasticsearch(decay, value)
                    assert max(wanted, LEAST) == pytest.approx(factors(shown)[factor], rel=1e-9, abs=1e-13)
                    between += 0.001 < wanted < 0.999
    assert between > 8_000


@pytest.mark.parametrize("shape", [GAUSS, EXP, LINEAR])
@pytest.mark.parametrize(
    ("decay", "values"),
    [
        pytest.param(
            (7 * DAY_S, 5 * DAY_S, 10 * DAY_S),
            {2 * DAY_S: 1.0, 7 * DAY_S: 1.0, 12 * DAY_S: 1.0, 22 * DAY_S: 0.5},
            id="reference: 5 days around 2013-09-17 weigh 1.0, and 15 days from it 0.5 (now is the 10th)",
        ),
        pytest.param(
            (40, 5, 5),
            {30: 0.5, 35: 1.0, 40: 1.0, 45: 1.0, 50: 0.5},
            id="guide: around 40 with offset 5 and scale 5, all from 35 to 45 score 1.0, 30 and 50 score 0.5",
        ),
        pytest.param((0, 0, 20), {20: 0.5}, id="reference: with price origin 0 and scale 20, a price of 20 scores 0.5"),
        pytest.param((0, 0, 2_000, 0.33), {2_000: 0.33}, id="reference: a decay of 0.33 is the score at scale"),
    ],
)
def test_what_the_documentation_says_of_all_shapes(
    shape: "Decay.Shape.ValueType", decay: tuple[float, ...], values: dict[int, float]
) -> None:
    """The scores that the documentation names come out, whatever the shape; a value is the seconds until an end."""
    offers = [offer(str(value), 0.0, value) for value in values]
    with service_of(catalog_of([decay_of(shape, *decay)], offers)) as service:
        answer = asked(service, 0)

    found = {value: factors(answer[str(value)])[FACTOR_NAME_TIMELINESS] for value in values}
    assert values == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        pytest.param(GAUSS, 0.5**4, id="gauss: at twice the scale, the fourth power"),
        pytest.param(EXP, 0.5**2, id="exp: at twice the scale, the second"),
        pytest.param(LINEAR, LEAST, id="linear: at twice the scale 0, here the minimum"),
    ],
)
def test_hotels_at_twice_the_scale(shape: "Decay.Shape.ValueType", wanted: float) -> None:
    """A hotel at 2 km, the scale of the reference's detailed example, scores 0.5; at 4 km the shapes differ.

    "In contrast to the normal and exponential decay", the linear one is 0 where the value exceeds twice the scale.
    """
    offers = [offer(str(metres), metres, 60) for metres in (0, 2_000, 4_000, 4_100)]
    with service_of(catalog_of([decay_of(shape, 0, 0, 2_000)], offers)) as service:
        nearness = {name: factors(one)[FACTOR_NAME_NEARNESS] for name, one in asked(service, 0).items()}

    assert 1.0 == pytest.approx(nearness["0"], rel=1e-5)
    assert 0.5 == pytest.approx(nearness["2000"], rel=1e-5)
    assert wanted == pytest.approx(nearness["4000"], rel=1e-5, abs=1e-5)
    assert (LEAST == pytest.approx(nearness["4100"])) == (shape == LINEAR)


def test_linear_stays_at_the_minimum() -> None:
    """Where Elasticsearch's linear decay would be less, ours has the `minimum`, and so do the others."""
    offers = [offer(str(value), 0.0, value) for value in (170, 200, 100_000)]
    decays = [decay_of(shape, 0, 0, 100, least=0.1) for shape in (LINEAR, EXP, GAUSS)]
    with service_of(catalog_of(decays, offers)) as service:
        linear, exp, gauss = (
            {int(name): factors(one)[FACTOR_NAME_TIMELINESS] for name, one in asked(service, number).items()}
            for number in range(3)
        )

    assert {170: 0.15, 200: 0.1, 100_000: 0.1} == pytest.approx(linear)
    assert {170: 0.5**1.7, 200: 0.25, 100_000: 0.1} == pytest.approx(exp)
    assert {170: 0.5**2.89, 200: 0.1, 100_000: 0.1} == pytest.approx(gauss)


def test_of_several_places_the_closest_counts() -> None:
    """As of a field with several values (multi_value_mode min, the default), the closest to the origin is chosen."""
    both = offer("both", 3_000.0, 60)
    both.target.circles.extend(offer("near", 1_000.0, 60).target.circles)
    with service_of(catalog_of([decay_of(EXP, 0, 0, 1_000)], [both, offer("far", 3_000.0, 60)])) as service:
        nearness = {name: factors(one)[FACTOR_NAME_NEARNESS] for name, one in asked(service, 0).items()}

    assert {"both": 0.5, "far": 0.125} == pytest.approx(nearness, rel=1e-5)
