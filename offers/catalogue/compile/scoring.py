"""Ranking strategies and explorations as rows of a snapshot, and the defaults of all that scoring reads."""

import math
from typing import Any, Final

from offers.catalogue import snapshot
from offers.catalogue.snapshot import FACTORS
from offers.v1.catalog_pb2 import Exploration
from offers.v1.ranking_pb2 import Decay, Propensity, RankingStrategy

DEFAULT_VALUE: Final = 0.5
DEFAULT_LEVER: Final = 0.5
DEFAULT_NEARNESS: Final = Decay(shape=Decay.SHAPE_GAUSS, scale=1000)
DEFAULT_TIMELINESS: Final = Decay(shape=Decay.SHAPE_EXP, scale=7200, minimum=0.25)
DEFAULT_SHARES: Final = {
    "nearness_without_distance": 0.5, "outside_daypart": 0.5, "missing_location": 0.5, "unreachable": 0.1,
}  # fmt: skip
"""Defaults of a RankingStrategy's shares, in the order of snapshot.STRATEGY."""
DEFAULT_WEIGHTS: Final = dict.fromkeys(FACTORS, 1.0) | {"propensity": 0.0, "recommendation": 0.0}
"""Propensity and recommendation have weight 0: a model that no strategy asks for changes nothing."""
DEFAULT_DECAY: Final = 0.5
DEFAULT_MINIMUM: Final = 1e-6
DEFAULT_EPSILON, DEFAULT_MAX_LOSS, DEFAULT_NEW_OFFER_SHARE = 0.05, 0.5, 0.05

_UNKNOWN: Final = {
    "without_context": snapshot.WITHOUT_CONTEXT, "without_profile": snapshot.WITHOUT_PROFILE,
    "without_person": snapshot.WITHOUT_PERSON,
}  # fmt: skip


def strategy_row(strategy: RankingStrategy) -> tuple[Any, ...]:
    """Return a record of snapshot.STRATEGY."""
    weights = strategy.weights
    return (
        [getattr(weights, name) if weights.HasField(name) else DEFAULT_WEIGHTS[name] for name in FACTORS],
        strategy.propensity.reward or Propensity.REWARD_CLICK,
        strategy.propensity.learner or Propensity.LEARNER_ONLINE,
        sum(bit for name, bit in _UNKNOWN.items() if getattr(strategy.propensity, name)),
        *(
            math.log(getattr(strategy, name) if strategy.HasField(name) else default)  # type: ignore[arg-type]
            for name, default in DEFAULT_SHARES.items()
        ),
        *_decay_fields(strategy.nearness if strategy.HasField("nearness") else DEFAULT_NEARNESS),
        *_decay_fields(strategy.timeliness if strategy.HasField("timeliness") else DEFAULT_TIMELINESS),
    )


def exploration_row(exploration: Exploration) -> tuple[int, float, float, float]:
    """Return an exploration as the manifest of a snapshot has it.

    Its parts are:
    - the method,
    - the share of answers in which epsilon-greedy explores,
    - by how much the logarithm of a score may change, up or down: half of what `max_loss` allows, because two offers
      that change places differ by twice that,
    - the share of answers for new offers.
    """
    return (
        exploration.method,
        exploration.epsilon if exploration.HasField("epsilon") else DEFAULT_EPSILON,
        -math.log(1 - (exploration.max_loss if exploration.HasField("max_loss") else DEFAULT_MAX_LOSS)) / 2,
        exploration.new_offer_share if exploration.HasField("new_offer_share") else DEFAULT_NEW_OFFER_SHARE,
    )


def _decay_fields(decay: Decay) -> tuple[float, ...]:
    """Return the values of snapshot.DECAY."""
    base = decay.decay if decay.HasField("decay") else DEFAULT_DECAY
    minimum = decay.minimum if decay.HasField("minimum") else DEFAULT_MINIMUM
    return (
        decay.shape or Decay.SHAPE_GAUSS, decay.origin, decay.offset, decay.scale, base, math.log(base),
        math.log(minimum),
    )  # fmt: skip
