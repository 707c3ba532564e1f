"""The online propensity model: a Bayesian logistic regression over hashed interactions.

The logit is a sum of weights, which are independent and normal. An example moves every weight it touches, the more
uncertain ones further. Weights are in units of their prior: mean 0 and variance 1 before the first example.
The logit of the overall reward rate is added. It is counted, not learned as a weight: where rewards are rare, such a
weight would become certain long before it is right, because the first examples are overrated while the foreseen
probability is one half.
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
from offers.learning.propensity.features import NO_WEIGHT, Examples, Features, weight_index_of
from offers.model.hashing import MISSING, mixed

HALF_LIFE_DAYS = 90.0
"""Days after which an example counts half."""
DAY_S = 86_400
REMEMBERED = 64
"""Size of the cache of sums that a prediction has for each group of interactions; a power of two."""

WEIGHT = np.dtype([("mean", "<f4"), ("evidence", "<f4")])
"""In units of the prior; the variance is 1 / (1 + evidence)."""

BEFOREHAND = 0.5
"""Rewards, and as many refusals, that count as seen before the first example (Jeffreys' prior)."""

_MISSING, _NO_WEIGHT = MISSING, NO_WEIGHT  # numba reads only globals of this module as constants


class Prediction(NamedTuple):
    """Normal distributions of logits, one for each offer."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    shared_variance: float
    """The part of each variance that all offers share: that of the request alone."""

    def probability(self) -> NDArray[np.float64]:
        """Return the mean probabilities (MacKay's approximation), in (0, 1)."""
        return np.asarray(1 / (1 + np.exp(-self.mean / np.sqrt(1 + math.pi / 8 * self.variance))))


class PropensityTables(NamedTuple):
    """A model as compiled loops read it: the Plan of its features, and what was learned."""

    interaction: NDArray[Any]
    group: NDArray[Any]
    part: NDArray[np.int32]
    weight: NDArray[Any]
    seen: NDArray[np.float64]


_NO_NUMBERS = np.empty((0, 0))


@dataclass(slots=True)
class Propensity:
    """The model of one reward. Updates of one instance must not run concurrently."""

    features: Features
    weight: NDArray[Any]
    """Records of WEIGHT."""
    seen: NDArray[np.float64]
    """Rewards, refusals (both faded), and the last day learned from, in days since 1970."""
    half_life_days: float = HALF_LIFE_DAYS
    """Over 0; infinite: nothing fades."""

    @classmethod
    def untaught(cls, features: Features, half_life_days: float = HALF_LIFE_DAYS) -> Self:
        """Return a model that has seen no example."""
        return cls(features, np.zeros(1 << features.bits, WEIGHT), np.zeros(3), half_life_days)

    @classmethod
    def of_arrays(cls, features: Features, arrays: Mapping[str, NDArray[Any]], half_life_days: float) -> Self:
        """Return a model over what `arrays` returned, without copying. Over read-only arrays it cannot learn."""
        return cls(features, arrays["weight"], arrays["seen"], half_life_days)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that was learned, by name."""
        return {"weight": self.weight, "seen": self.seen}

    def copy(self) -> Self:
        """Return the same model over arrays of its own."""
        return type(self)(self.features, self.weight.copy(), self.seen.copy(), self.half_life_days)

    def update(self, examples: Examples) -> NDArray[np.float64]:
        """Learn from examples in their order, and return for each the probability foreseen just before it.

        Evidence fades by the days between examples; one of an earlier day counts as one of the last day seen.
        """
        foreseen, kept = np.empty(len(examples.keys)), 0.5 ** (1 / self.half_life_days)
        # Other strides, and numbers that may be there or not, would compile the loop again.
        rows = examples._replace(keys=np.ascontiguousarray(examples.keys), numbers=_NO_NUMBERS)
        _learn(self.tables(), self.features.request_size, rows, kept, foreseen)
        return foreseen

    def tables(self) -> PropensityTables:
        """Return the model for compiled loops."""
        return PropensityTables(*self.features.plan, self.weight, self.seen)

    def predict(self, request: NDArray[np.uint64], offers: NDArray[np.uint64]) -> Prediction:
        """Return the logits of a request's offers: `request` has its keys, `offers` a row of keys for each."""
        mean, variance = np.empty(len(offers)), np.empty(len(offers))
        rows = np.ascontiguousarray(offers)  # other strides would compile the loop again
        return Prediction(mean, variance, predict(self.tables(), request, rows, mean, variance))

    def parts(self, keys: NDArray[np.uint64]) -> list[tuple[tuple[str, ...], float]]:
        """Return the terms of the mean of a logit, for the keys of all attributes: one for each interaction.

        The term without attributes is that of the reward rate. The largest come first.
        """
        indexes = self.features.weight_indexes([int(key) for key in keys])
        found = [
            (one.attributes, math.sqrt(one.variance) * float(self.weight["mean"][index]))
            for (one, _), index in zip(self.features.ordered, indexes, strict=True)
            if index != NO_WEIGHT
        ]
        found.append(((), _base(self.seen)[0]))
        return sorted(found, key=lambda part: -abs(part[1]))


@njit(error_model="numpy", forceinline=True)
def _probability(mean: float, variance: float) -> float:
    return 1 / (1 + math.exp(-mean / math.sqrt(1 + math.pi / 8 * variance)))


@njit(error_model="numpy")
def _base(seen: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and variance of the logit of the overall reward rate."""
    rewards, refusals = seen[0] + BEFOREHAND, seen[1] + BEFOREHAND
    return math.log(rewards / refusals), 1 / rewards + 1 / refusals


@njit(error_model="numpy")
def _fade(weight: NDArray[Any], kept: float) -> None:
    """Multiply all evidence by `kept`: means go back towards the prior's."""
    for index in range(len(weight)):
        evidence = np.float64(weight[index].evidence)
        if evidence > 0:
            weight[index].mean *= kept * (1 + evidence) / (1 + kept * evidence)
            weight[index].evidence = kept * evidence


@njit(cache=True, error_model="numpy")
def _learn(model: PropensityTables, size: int, rows: Examples, kept: float, foreseen: NDArray[np.float64]) -> None:
    """Learn by assumed-density filtering: each example's posterior is replaced by independent normals (Laplace).

    `size` is the number of attributes of the request, `kept` the share of evidence that is left after a day.
    """
    interaction, part, weight, seen = model.interaction, model.part, model.weight, model.seen
    keys, reward, importance, time = rows.keys, rows.reward, rows.importance, rows.time
    index = np.empty(len(interaction), np.int64)
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
            index[number] = weight_index_of(one, part, keys[row, :size], keys[row, size:])
            if index[number] != _NO_WEIGHT:
                mean += one.scale * weight[index[number]].mean
                variance += one.variance / (1.0 + weight[index[number]].evidence)
        chance = _probability(mean, variance)
        foreseen[row] = chance
        seen[0] += importance[row] * reward[row]
        seen[1] += importance[row] * (1 - reward[row])
        bend = importance[row] * chance * (1 - chance)
        pull = importance[row] * (reward[row] - chance) / (1 + variance * bend)
        bend /= 1 + variance * bend
        for number in range(len(interaction)):
            if index[number] != _NO_WEIGHT:
                one, precision = interaction[number], 1.0 + weight[index[number]].evidence
                weight[index[number]].mean += one.scale * pull / precision
                weight[index[number]].evidence = precision / (1 - one.variance * bend / precision) - 1


@njit(cache=True, error_model="numpy")
def predict(
    model: PropensityTables, request: NDArray[np.uint64], offers: NDArray[np.uint64], means: NDArray[np.float64],
    variances: NDArray[np.float64],
) -> float:  # fmt: skip
    """Write means and variances of the offers' logits, and return the variance of the request's own part.

    Offers with the same attributes in a group of interactions share its sum, which is cached.
    """
    interaction, group, part, weight = model.interaction, model.group, model.part, model.weight
    whose = np.empty(REMEMBERED, np.uint64)
    # Reading the weights from memory one after the other takes longest: so all are prefetched.
    _fetch(interaction, group[0], part, weight, request, request[:0])
    for number in range(1, len(group)):
        one = group[number]
        whose[:] = np.uint64(_MISSING)
        for index in range(len(offers)):
            key = _key_of(one, part, request, offers[index])
            slot = np.int64(key & np.uint64(REMEMBERED - 1))
            if whose[slot] != key:
                whose[slot] = key
                _fetch(interaction, one, part, weight, request, offers[index])
    base_mean, base_variance = _base(model.seen)
    own_mean, own_variance = _sum(interaction, group[0], part, weight, request, request[:0])
    own_variance += base_variance
    means[:] = base_mean + own_mean
    variances[:] = own_variance
    sums = np.empty((REMEMBERED, 2))
    for number in range(1, len(group)):
        one = group[number]
        whose[:] = np.uint64(_MISSING)
        for index in range(len(offers)):
            key = _key_of(one, part, request, offers[index])
            slot = np.int64(key & np.uint64(REMEMBERED - 1))
            if whose[slot] != key:
                whose[slot] = key
                sums[slot, 0], sums[slot, 1] = _sum(interaction, one, part, weight, request, offers[index])
            means[index] += sums[slot, 0]
            variances[index] += sums[slot, 1]
    return own_variance


@intrinsic
def _fetch_ahead(_context: Any, array: Any, _index: Any) -> Any:  # noqa: ANN401 - numba's own types
    """Prefetch an element from memory."""

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
    """Prefetch the weights of a group."""
    for number in range(group.first, group.last):
        index = weight_index_of(interaction[number], part, request, offer)
        if index != _NO_WEIGHT:
            _fetch_ahead(weight, index)


@njit(error_model="numpy", forceinline=True)
def _key_of(
    group: np.void, part: NDArray[np.int32], request: NDArray[np.uint64], offer: NDArray[np.uint64]
) -> np.uint64:  # fmt: skip
    """Return a key that is the same for offers that share a group's sum."""
    key = np.uint64(0)
    for attribute in part[group.part_first : group.part_last]:
        key = mixed(key ^ offer[attribute - len(request)])
    return key


@njit(error_model="numpy")
def _sum(
    interaction: NDArray[Any], group: np.void, part: NDArray[np.int32], weight: NDArray[Any],
    request: NDArray[np.uint64], offer: NDArray[np.uint64],
) -> tuple[float, float]:  # fmt: skip
    """Return mean and variance of a group's part of the logit."""
    mean, variance = 0.0, 0.0
    for number in range(group.first, group.last):
        one = interaction[number]
        index = weight_index_of(one, part, request, offer)
        if index != _NO_WEIGHT:
            mean += one.scale * weight[index].mean
            variance += one.variance / (1.0 + weight[index].evidence)
    return mean, variance


def calibration_error(reward: NDArray[np.float64], foreseen: NDArray[np.float64], bins: int = 15) -> float:
    """Return the expected calibration error (ECE), 0 to 1: the mean gap between rewards and foreseen probabilities.

    Examples are put into `bins` of equal size by the foreseen probability, so that rare rewards are resolved as well.
    """
    order = np.argsort(foreseen, kind="stable")
    gaps = [
        abs(float(reward[members].sum() - foreseen[members].sum()))
        for members in np.array_split(order, min(bins, len(order)))
    ]
    return sum(gaps) / len(order)
