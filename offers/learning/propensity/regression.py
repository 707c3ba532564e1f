"""How likely someone takes an offer up: a Bayesian logistic regression over hashed interactions, learning online.

The logit is a sum of weights, each normal and independent of the others; an example moves every weight it touches by
how uncertain that weight is. Weights are kept in units of their prior: mean 0, variance 1 before anything was seen.
To this comes the logit of how often there was a reward at all, which is counted: where rewards are rare, a weight would
be sure of itself long before it is right, as what the first examples tell is overrated while even chances are foreseen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from offers.compiled import write_fetch_ahead
from offers.learning.propensity.features import NOWHERE, Examples, Features, place_of
from offers.model.hashing import MISSING, mixed

HALF_LIFE_DAYS = 90.0
"""Days after which what was learned counts half."""
DAY_S = 86_400
REMEMBERED = 64
"""Sums that a prediction remembers for each group of interactions; a power of two."""

WEIGHT = np.dtype([("mean", "<f4"), ("evidence", "<f4")])
"""In units of the prior; the variance is 1 / (1 + evidence)."""

BEFOREHAND = 0.5
"""Rewards, and as many refusals, that are taken to have been seen before the first (Jeffreys' prior)."""

_MISSING, _NOWHERE = MISSING, NOWHERE  # numba reads globals of this module only once, as constants


class Prediction(NamedTuple):
    """Normal distributions of logits, an element for each offer."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    shared_variance: float
    """The part of each variance that is that of the request alone: it tells no offer from another."""

    def probability(self) -> NDArray[np.float64]:
        """The mean of the probability, nearly (MacKay's approximation), in (0, 1)."""
        return np.asarray(1 / (1 + np.exp(-self.mean / np.sqrt(1 + math.pi / 8 * self.variance))))


@dataclass(slots=True)
class Propensity:
    """The model of one kind of reward. Updates of one instance must not run at the same time."""

    features: Features
    weight: NDArray[Any]
    """WEIGHT."""
    seen: NDArray[np.float64]
    """Rewards, refusals (both faded), and the last day that was learned from, since 1970."""
    half_life_days: float = HALF_LIFE_DAYS
    """Over 0; infinite: nothing is forgotten."""

    @classmethod
    def untaught(cls, features: Features, half_life_days: float = HALF_LIFE_DAYS) -> Self:
        """A model that has seen nothing."""
        return cls(features, np.zeros(1 << features.bits, WEIGHT), np.zeros(3), half_life_days)

    @classmethod
    def of_arrays(cls, features: Features, arrays: Mapping[str, NDArray[Any]], half_life_days: float) -> Self:
        """A model over what `arrays` gave, which is not copied: of read-only arrays, it can predict but not learn."""
        return cls(features, arrays["weight"], arrays["seen"], half_life_days)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learned, by name."""
        return {"weight": self.weight, "seen": self.seen}

    def copy(self) -> Self:
        """The same model over arrays of its own, which learns apart."""
        return type(self)(self.features, self.weight.copy(), self.seen.copy(), self.half_life_days)

    def update(self, examples: Examples) -> NDArray[np.float64]:
        """Learn from examples in their order, and give for each the probability as it was foreseen just before it.

        Forgets by the days between them; an example of an earlier day counts as one of the last day seen.
        """
        keys, _, reward, importance, time = examples
        kept = 0.5 ** (1 / self.half_life_days)
        foreseen = np.empty(len(keys))
        plan, size = self.features.plan, self.features.request_size
        _learn(
            plan.interaction, plan.part, self.weight, self.seen, size, np.ascontiguousarray(keys), reward, importance,
            time, kept, foreseen,
        )  # fmt: skip
        return foreseen

    def predict(self, request: NDArray[np.uint64], offers: NDArray[np.uint64]) -> Prediction:
        """The logits of a request's offers: `request` has the keys of its attributes, `offers` a row of keys each."""
        plan, mean, variance = self.features.plan, np.empty(len(offers)), np.empty(len(offers))
        rows = np.ascontiguousarray(offers)  # other strides would be compiled anew
        shared = predict(
            plan.interaction, plan.group, plan.part, self.weight, self.seen, request, rows, mean, variance
        )  # fmt: skip
        return Prediction(mean, variance, shared)

    def parts(self, keys: NDArray[np.uint64]) -> list[tuple[tuple[str, ...], float]]:
        """What the mean of a logit is the sum of, for the keys of all attributes: a part for each interaction.

        The part without attributes is that of rewards in general. The largest come first.
        """
        places = self.features.places([int(key) for key in keys])
        found = [
            (one.attributes, math.sqrt(one.variance) * float(self.weight["mean"][place]))
            for (one, _), place in zip(self.features.ordered, places, strict=True)
            if place != NOWHERE
        ]
        found.append(((), _base(self.seen)[0]))
        return sorted(found, key=lambda part: -abs(part[1]))


@njit(error_model="numpy", forceinline=True)
def _probability(mean: float, variance: float) -> float:
    return 1 / (1 + math.exp(-mean / math.sqrt(1 + math.pi / 8 * variance)))


@njit(error_model="numpy")
def _base(seen: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and variance of the logit of a reward of which nothing else is known."""
    rewards, refusals = seen[0] + BEFOREHAND, seen[1] + BEFOREHAND
    return math.log(rewards / refusals), 1 / rewards + 1 / refusals


@njit(error_model="numpy")
def _fade(weight: NDArray[Any], kept: float) -> None:
    """Let all that was seen count `kept` times as much: evidence fades, and means go back towards the prior's."""
    for place in range(len(weight)):
        evidence = np.float64(weight[place].evidence)
        if evidence > 0:
            weight[place].mean *= kept * (1 + evidence) / (1 + kept * evidence)
            weight[place].evidence = kept * evidence


@njit(cache=True, error_model="numpy")
def _learn(
    interaction: NDArray[Any], part: NDArray[np.int32], weight: NDArray[Any], seen: NDArray[np.float64],
    size: int, keys: NDArray[np.uint64], reward: NDArray[np.float64], importance: NDArray[np.float64],
    time: NDArray[np.int64], kept: float, foreseen: NDArray[np.float64],
) -> None:  # fmt: skip
    """Assumed-density filtering: after each example, the posterior is replaced by independent normals (Laplace)."""
    place = np.empty(len(interaction), np.int64)
    for row in range(len(keys)):
        day = time[row] // DAY_S
        if day > seen[2]:
            faded = kept ** (day - seen[2])
            _fade(weight, faded)
            seen[0] *= faded
            seen[1] *= faded
            seen[2] = day
        mean, variance = _base(seen)
        for number in range(len(interaction)):
            one = interaction[number]
            place[number] = place_of(one, part, keys[row, :size], keys[row, size:])
            if place[number] != _NOWHERE:
                mean += one.scale * weight[place[number]].mean
                variance += one.variance / (1.0 + weight[place[number]].evidence)
        chance = _probability(mean, variance)
        foreseen[row] = chance
        seen[0] += importance[row] * reward[row]
        seen[1] += importance[row] * (1 - reward[row])
        bend = importance[row] * chance * (1 - chance)
        pull = importance[row] * (reward[row] - chance) / (1 + variance * bend)
        bend /= 1 + variance * bend
        for number in range(len(interaction)):
            if place[number] != _NOWHERE:
                one, precision = interaction[number], 1.0 + weight[place[number]].evidence
                weight[place[number]].mean += one.scale * pull / precision
                weight[place[number]].evidence = precision / (1 - one.variance * bend / precision) - 1


@njit(cache=True, error_model="numpy")
def predict(
    interaction: NDArray[Any], group: NDArray[Any], part: NDArray[np.int32], weight: NDArray[Any],
    seen: NDArray[np.float64], request: NDArray[np.uint64], offers: NDArray[np.uint64],
    means: NDArray[np.float64], variances: NDArray[np.float64],
) -> float:  # fmt: skip
    """Write means and variances of the offers' logits, and give the variance of the request's own part.

    Offers that are alike in what a group of interactions asks share its sum: it is worked out once, and remembered.
    """
    whose = np.empty(REMEMBERED, np.uint64)
    # One after the other from memory, the weights take longer than all else: so all are asked for first.
    _fetch(interaction, group[0], part, weight, request, request[:0])
    for number in range(1, len(group)):
        one = group[number]
        whose[:] = np.uint64(_MISSING)
        for place in range(len(offers)):
            key = _key_of(one, part, request, offers[place])
            slot = np.int64(key & np.uint64(REMEMBERED - 1))
            if whose[slot] != key:
                whose[slot] = key
                _fetch(interaction, one, part, weight, request, offers[place])
    base_mean, base_variance = _base(seen)
    own_mean, own_variance = _sum(interaction, group[0], part, weight, request, request[:0])
    own_variance += base_variance
    means[:] = base_mean + own_mean
    variances[:] = own_variance
    sums = np.empty((REMEMBERED, 2))
    for number in range(1, len(group)):
        one = group[number]
        whose[:] = np.uint64(_MISSING)
        for place in range(len(offers)):
            key = _key_of(one, part, request, offers[place])
            slot = np.int64(key & np.uint64(REMEMBERED - 1))
            if whose[slot] != key:
                whose[slot] = key
                sums[slot, 0], sums[slot, 1] = _sum(interaction, one, part, weight, request, offers[place])
            means[place] += sums[slot, 0]
            variances[place] += sums[slot, 1]
    return own_variance


@intrinsic
def _fetch_ahead(_context: Any, array: Any, _place: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Have an element on its way from memory while other work is done."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        made = context.make_array(signature.args[0])(context, builder, args[0])
        write_fetch_ahead(builder, builder.bitcast(builder.gep(made.data, [args[1]]), cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@njit(error_model="numpy")
def _fetch(
    interaction: NDArray[Any], group: np.void, part: NDArray[np.int32], weight: NDArray[Any],
    request: NDArray[np.uint64], offer: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Have the weights of a group on their way."""
    for number in range(group.first, group.last):
        place = place_of(interaction[number], part, request, offer)
        if place != _NOWHERE:
            _fetch_ahead(weight, place)


@njit(error_model="numpy", forceinline=True)
def _key_of(
    group: np.void, part: NDArray[np.int32], request: NDArray[np.uint64], offer: NDArray[np.uint64]
) -> np.uint64:  # fmt: skip
    """What is the same for offers that share a group's sum."""
    key = np.uint64(0)
    for attribute in part[group.part_first : group.part_last]:
        key = mixed(key ^ offer[attribute - len(request)])
    return key


@njit(error_model="numpy")
def _sum(
    interaction: NDArray[Any], group: np.void, part: NDArray[np.int32], weight: NDArray[Any],
    request: NDArray[np.uint64], offer: NDArray[np.uint64],
) -> tuple[float, float]:  # fmt: skip
    """Mean and variance of a group's part of the logit."""
    mean, variance = 0.0, 0.0
    for number in range(group.first, group.last):
        one = interaction[number]
        place = place_of(one, part, request, offer)
        if place != _NOWHERE:
            mean += one.scale * weight[place].mean
            variance += one.variance / (1.0 + weight[place].evidence)
    return mean, variance


def calibration_error(reward: NDArray[np.float64], foreseen: NDArray[np.float64], bins: int = 15) -> float:
    """Expected calibration error (ECE), from 0 to 1: by how much rewards differ from what was foreseen of them.

    Examples are put into `bins` of equally many by what was foreseen, so that rare rewards are told apart as well.
    """
    order = np.argsort(foreseen, kind="stable")
    gaps = [
        abs(float(reward[members].sum() - foreseen[members].sum()))
        for members in np.array_split(order, min(bins, len(order)))
    ]
    return sum(gaps) / len(order)
