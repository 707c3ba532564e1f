"""The part of the specification that concerns models: what they predict of an offer, and how exploration varies it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import NormalDist
from typing import NamedTuple
from zoneinfo import ZoneInfo

from google.type.latlng_pb2 import LatLng

from offers.catalogue.compile.scoring import DEFAULT_EPSILON, DEFAULT_MAX_LOSS, DEFAULT_NEW_OFFER_SHARE
from offers.decision.kernels.models.explore import DRAWS, HOUR_S
from offers.decision.kernels.models.foresee import LEAST_PROPENSITY, NEW_SHOWN
from offers.decision.kernels.models.sound import MOST_LEAVES
from offers.decision.reference.places import distance_m
from offers.learning.model import Model
from offers.learning.propensity.features import DISTANCE, NO_WEIGHT, OFFER_PREFIX, PERSON, Features
from offers.learning.propensity.regression import BEFOREHAND
from offers.learning.propensity.trees import RIGHT, ZERO
from offers.learning.recommend.reference import ReferenceScores
from offers.learning.values import REWARDS, request_values
from offers.model.geohash import centre_of, geohash
from offers.model.hashing import MISSING, SPLITMIX_STEP, mixed_in_python
from offers.model.keys import key_of
from offers.model.query import Query
from offers.model.visits import TRAITS, place_of, short, trait_of
from offers.v1.catalog_pb2 import Catalog, Exploration
from offers.v1.context_pb2 import Context
from offers.v1.offer_pb2 import Offer, Target
from offers.v1.profile_pb2 import Profile
from offers.v1.ranking_pb2 import Propensity, RankingStrategy
from offers.v1.state_pb2 import DecisionRecord

_ALL = 2**64 - 1
_OF_DRAW, _OF_NEW, _OF_EPSILON, _OF_OFFER = (SPLITMIX_STEP * number & _ALL for number in range(1, 5))
_STEPS = 1_024
_NORMAL = [NormalDist().inv_cdf((step + 0.5) / _STEPS) for step in range(_STEPS)]


@dataclass(frozen=True, slots=True)
class Taught:
    """A model with the values it sees of a request and a person."""

    model: Model
    recommends: ReferenceScores | None
    """The model's recommender; None: it has none."""
    values: Mapping[str, object]
    """The values of the request and the person, by their names in learning.values."""
    history: bytes = b""
    """The visits of the person, encoded as model.visits.VISIT."""
    place: int = 0
    """The key of the person's location; 0: there is no location."""
    second: int = 0
    """The instant on the wall clock of the catalogue's time zone, as seconds since 1970."""
    chance: int = 0
    """The unsigned number that seeds exploration: see `chance_of`."""
    cell: str = ""
    """The geohash of the person's location; "": there is no location."""
    _known: dict[tuple[str, str, int], "Foreseen"] = field(default_factory=dict, compare=False)

    def of(self, catalog: Catalog, strategy: RankingStrategy, offer: Offer, place: LatLng | None = None) -> "Foreseen":
        """Return the prediction for an offer, cached. `place` is where it is shown; None: nowhere with a distance."""
        metres = metres_from(self.cell, place) if self.cell and place else 0
        key = strategy.ranking_strategy_id, offer.offer_id, metres
        if key not in self._known:
            self._known[key] = _foreseen(self, catalog, strategy, offer, metres)
        return self._known[key]

    def varied(self, catalog: Catalog, query: Query, weight: float, offer_id: str, foreseen: "Foreseen") -> float:
        """Return what the decision's own draw adds to the logarithm of an offer's propensity."""
        return self.variation(catalog, query, weight, offer_id, foreseen)(draw_of(self.chance))

    def variation(
        self, catalog: Catalog, query: Query, weight: float, offer_id: str, foreseen: "Foreseen"
    ) -> Callable[[int], float]:
        """Return a function from a draw to what it adds to the logarithm of an offer's propensity."""
        exploration = exploration_of(catalog, query)
        if not foreseen.is_asked or exploration.method == Exploration.METHOD_UNSPECIFIED:
            return lambda _: 0.0
        return _variation(exploration, weight, foreseen, key_of("offer", catalog.catalog_id, offer_id), self.chance)


class Foreseen(NamedTuple):
    """The predictions of a model for an offer."""

    propensity: float = 1.0
    """The propensity, without exploration."""
    deviation: float = 0.0
    """Standard deviation of its logarithm, by the features that tell the offer from others."""
    is_new: bool = False
    """Whether the model has seen too little of the offer to rate it."""
    is_asked: bool = False
    """Whether there is a model of the reward; else there is nothing to explore."""
    recommendation: float = 1.0


NOTHING = Foreseen()
"""The prediction without a model."""


def told(
    context: Context, profile: Profile, query: Query, draw: int, characters: int, time_zone: str, *, hidden: bool
) -> dict[str, object]:  # fmt: skip
    """Return the values that models see of a request and a person, by name: those they learn from decision records.

    `draw` identifies the person, 0: nobody. `characters` is the length of the location's geohash. `time_zone` is the
    catalogue's. If `hidden`, the visit may not be used.
    """
    record = DecisionRecord(
        time=query.time, time_zone=context.time_zone, channel=query.surface.channel,
        placement=query.surface.placement, entry_channel="" if hidden else context.session.entry_channel,
        geohash=geohash_of(query, characters), context_attributes=context.attributes,
        profile_attributes=profile.attributes, draw=draw,
    )  # fmt: skip
    return request_values(record, query.time, time_zone or "UTC")


def geohash_of(query: Query, characters: int) -> str:
    """Return the geohash of a query's location in so many characters; "": there is no location."""
    return "" if math.isnan(query.latitude) else geohash(query.latitude, query.longitude, characters)


def taught_of(
    model: Model, recommends: ReferenceScores | None, values: Mapping[str, object], query: Query, history: bytes,
    characters: int, time_zone: str, chance: int,
) -> Taught:  # fmt: skip
    """Return a model with the values it sees in a decision. The arguments are those of `told` and of Taught."""
    zone = ZoneInfo(time_zone or "UTC")  # the clock of visits
    ahead = datetime.fromtimestamp(query.time, zone).utcoffset()
    second = query.time + round(ahead.total_seconds() if ahead else 0)
    cell = geohash_of(query, characters)
    return Taught(model, recommends, values, history, place_of(cell), second, chance, cell)


def metres_from(cell: str, place: LatLng) -> int:
    """Return the metres from the middle of a geohash's cell to a place, a whole number of at least 1."""
    latitude, longitude = centre_of(cell)
    return max(math.floor(distance_m(LatLng(latitude=latitude, longitude=longitude), place) + 0.5), 1)


def _foreseen(taught: Taught, catalog: Catalog, strategy: RankingStrategy, offer: Offer, metres: int) -> Foreseen:
    """Return the prediction for an offer, so many metres away; 0: no distance is known."""
    found = Foreseen()
    if strategy.weights.propensity > 0:
        found = _propensity(taught, catalog, strategy.propensity, offer, metres)
    if strategy.weights.recommendation > 0 and taught.recommends:
        item, traits = item_of(catalog, offer), traits_of(offer)
        share = taught.recommends.probability(taught.history, taught.place, taught.second, item, traits)
        found = found._replace(recommendation=share)
    return found


def item_of(catalog: Catalog, offer: Offer) -> int:
    """Return the key of an offer in a person's habits: that of the one venue it is for, else its own."""
    target = Target()
    target.CopyFrom(offer.target)
    for name in ("radius_m", "excluded_zone_ids", "missing_location", "min_inside_probability"):
        target.ClearField(name)
    if len(target.venue_ids) == 1 and target == Target(venue_ids=target.venue_ids):
        return key_of("venue", catalog.catalog_id, target.venue_ids[0])
    return key_of("offer", catalog.catalog_id, offer.offer_id)


def traits_of(offer: Offer) -> list[int]:
    """Return the traits that an offer shares with others, in the order of TRAITS."""
    named = {"category": offer.category, "brand": offer.brand}
    named |= {name: value for name, value in offer.attributes.items() if isinstance(value, str) and name in TRAITS}
    return [int(short(trait_of(kind, named.get(kind, "")))) for kind in TRAITS]


def _propensity(taught: Taught, catalog: Catalog, asked: Propensity, offer: Offer, metres: int) -> Foreseen:
    """Return the propensity of an offer by the learner that the strategy asks for."""
    features, moment = Features.of_json(taught.model.meta["features"]), dict(taught.values)
    if metres:
        moment[DISTANCE] = metres
    values = {name: value for name, value in moment.items() if not _is_unknown(name, catalog, asked)}
    values |= {f"{OFFER_PREFIX}{name}": value for name, value in offer.attributes.items()}
    values |= {
        f"{OFFER_PREFIX}{name}": value
        for name, value in {
            "id": offer.offer_id, "category": offer.category, "brand": offer.brand, "campaign": offer.campaign_id,
        }.items()
    }  # fmt: skip
    reward = REWARDS[max(asked.reward - 1, 0)]
    keys = [int(key) for key in features.keys(values)]
    if asked.learner == Propensity.LEARNER_TREES and f"{reward}.trees.test_first" in taught.model.arrays:
        numbers = [float(number) for number in features.numbers(values)]
        chance = max(_logistic(_of_trees(taught.model, f"{reward}.trees.", keys, numbers)), LEAST_PROPENSITY)
        return Foreseen(chance, is_asked=True)
    if f"{reward}.weight" not in taught.model.arrays:
        return Foreseen()
    weights, (rewards, refusals, _) = taught.model.arrays[f"{reward}.weight"], taught.model.arrays[f"{reward}.seen"]
    rewards, refusals = float(rewards) + BEFOREHAND, float(refusals) + BEFOREHAND
    mean, shared, own = math.log(rewards / refusals), 1 / rewards + 1 / refusals, 0.0
    evidence = None
    for (one, _), place in zip(features.ordered, features.weight_indexes(keys), strict=True):
        if place == NO_WEIGHT:
            continue
        mean += math.sqrt(one.variance) * float(weights["mean"][place])
        left = one.variance / (1 + float(weights["evidence"][place]))
        if any(name.startswith(OFFER_PREFIX) for name in one.attributes):
            own += left
        else:
            shared += left
        if one.attributes == (f"{OFFER_PREFIX}id",):
            evidence = float(weights["evidence"][place]) / one.variance
    chance = max(_logistic(mean / math.sqrt(1 + math.pi / 8 * (shared + own))), LEAST_PROPENSITY)
    is_new = evidence is not None and evidence < NEW_SHOWN * chance * (1 - chance)
    return Foreseen(chance, (1 - chance) * math.sqrt(own), is_new, is_asked=True)


def _is_unknown(name: str, catalog: Catalog, asked: Propensity) -> bool:
    """Return whether a value is hidden from propensity: it is sensitive, or the strategy leaves it out."""
    if name.startswith("profile."):
        return asked.without_profile or name.removeprefix("profile.") in catalog.sensitive_attributes
    return asked.without_person if name == PERSON else asked.without_context


def _logistic(logit: float) -> float:
    """Return the logistic function."""
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def _of_trees(model: Model, prefix: str, keys: list[int], numbers: list[float]) -> float:
    """Return the logit of boosted trees.

    In each tree, every test that goes right rules out leaves; the first leaf left counts (QuickScorer).
    """
    arrays = {name.removeprefix(prefix): array for name, array in model.arrays.items() if name.startswith(prefix)}
    left = [2**MOST_LEAVES - 1] * len(arrays["leaf_first"])
    for attribute, (key, number) in enumerate(zip(keys, numbers, strict=True)):
        met = number
        if key != MISSING and math.isnan(number):
            levels = slice(*arrays["level_first"][attribute : attribute + 2].tolist())
            counts = zip(arrays["level_key"][levels].tolist(), arrays["level_count"][levels].tolist(), strict=True)
            met = dict(counts).get(key, 0.0)
        for test in arrays["test"][slice(*arrays["test_first"][attribute : attribute + 2].tolist())]:
            if math.isnan(met):
                goes_right = test["missing"] == RIGHT or (test["missing"] == ZERO and test["threshold"] < 0)
            else:
                goes_right = met > test["threshold"]
            if goes_right:
                left[test["tree"]] &= int(test["kept"])
    first = arrays["leaf_first"].tolist()
    return sum(
        float(arrays["leaf"][begin + (leaves & -leaves).bit_length() - 1])
        for begin, leaves in zip(first, left, strict=True)
    )


def chance_of(draw: int, time: int, seed: int, otherwise: int) -> int:
    """Return the number that seeds exploration: from the request's seed (-1: none), else from the person and the hour.

    `otherwise` serves for nobody in particular.
    """
    if seed >= 0:
        return mixed_in_python(seed)
    return mixed_in_python(draw & _ALL ^ mixed_in_python(time // HOUR_S) if draw else otherwise & _ALL)


def draw_of(chance: int) -> int:
    """Return which of the DRAWS a decision uses."""
    return mixed_in_python(chance ^ _OF_DRAW) % DRAWS


def exploration_of(catalog: Catalog, query: Query) -> Exploration:
    """Return the exploration of the placement asked for."""
    named = (one.exploration for one in catalog.placements if one.placement_id == query.surface.placement)
    return next(named, Exploration())


def _variation(
    exploration: Exploration, weight: float, foreseen: Foreseen, key: int, chance: int
) -> Callable[[int], float]:
    """Return a function from a draw to what it adds to the logarithm of an offer's propensity.

    `weight` is that of the factor. `key` is the offer's.
    """
    loss = exploration.max_loss if exploration.HasField("max_loss") else DEFAULT_MAX_LOSS
    limit = -math.log(1 - loss) / 2 / weight
    high = min(limit, -math.log(foreseen.propensity))
    share = exploration.new_offer_share if exploration.HasField("new_offer_share") else DEFAULT_NEW_OFFER_SHARE
    raised = _draws_for(share, chance ^ _OF_NEW) if foreseen.is_new else 0
    epsilon = exploration.epsilon if exploration.HasField("epsilon") else DEFAULT_EPSILON
    explored = _draws_for(epsilon, chance ^ _OF_EPSILON)
    is_thompson = exploration.method == Exploration.METHOD_THOMPSON
    begun = mixed_in_python(chance ^ key & _ALL)

    def varied(draw: int) -> float:
        if draw < raised:
            return high
        bits = mixed_in_python(begun + (draw + 1) * _OF_OFFER & _ALL)
        if is_thompson:
            moved = _NORMAL[bits % _STEPS] * foreseen.deviation
        else:
            moved = (2 * _evenly(bits) - 1) * limit if DRAWS - draw <= explored else 0.0
        return min(max(moved, -limit), high)

    return varied


def _evenly(bits: int) -> float:
    """Return the number from 0 to 1 (exclusive) of 64 random bits."""
    return (bits >> 11) / 2**53


def _draws_for(share: float, bits: int) -> int:
    """Return the number of draws that a share stands for, rounded at random."""
    return int(share * DRAWS + _evenly(mixed_in_python(bits)))
