"""An online model that learns its latest examples again from time to time, mixed.

A model that learns each example once depends on their order: a run of one offer moves the overall reward rate, and with
it what is foreseen of all other offers, and an outcome that changes late cannot be exchanged for the one learned.
So the latest examples are kept. Now and then the model is put back to what it was before them, and learns them again
with their outcomes of now, in an order that has nothing to do with time (rehearsal: Robins, "Catastrophic forgetting,
rehearsal and pseudorehearsal", Connection Science 7, 1995).
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offers.learning.pending import Label
from offers.learning.propensity.delays import come_by, counted, shares_of, step_of
from offers.learning.propensity.features import DECISION, OFFER_PREFIX, Examples, Features
from offers.learning.propensity.regression import DAY_S, Propensity
from offers.model.hashing import MISSING

MOST_RECENT = 65_536
"""Most examples of a reward that are kept to be learned again: each has 8 bytes for each attribute, and some 60 more.

The keys of their attributes are hashes without a secret: who guesses a value can tell whether it is there. So examples
of erased decisions are removed (`forget`)."""
FOLDED = 4
"""One in this many of the kept examples, the oldest, is learned for good when there are too many."""
MIXED_AFTER, MIXED_AFTER_OF_MANY, MANY = 32, 8, 8_192
"""The examples are learned again when one in MIXED_AFTER is new; beyond MANY, one in MIXED_AFTER_OF_MANY."""
REVISED_AFTER, LEAST_REVISED = 32, 4_096
"""The same when the revised ones are one in REVISED_AFTER of the rewards, and one in LEAST_REVISED of all."""
RESTED_AFTER = 128
"""The same while no others come, when one in this many is new, or an eighth of the revisions above has come."""
MOST_IMPORTANCE = 10.0
"""Limit of the importance of a correction."""
_OFFER_ID = f"{OFFER_PREFIX}id"
_KEPT = ("keys", "reward", "importance", "time", "decision")
_NO_NUMBERS = np.empty((0, 0))


class RehearsedModel:
    """The model of one reward, with its latest examples. The same calls give the same model, whatever their sizes."""

    def __init__(self, features: Features, settle_s: int) -> None:
        """Know nothing yet. Examples come `settle_s` seconds after their offers were shown."""
        self.model = Propensity.untaught(features)
        """The model of all examples."""
        self.revised = 0
        """Number of revisions so far."""
        self._settle_s = settle_s
        self._before = Propensity.untaught(features)
        """The model of the examples that are not kept any more."""
        names = features.attributes
        self._offer = names.index(_OFFER_ID) if _OFFER_ID in names else None
        self._first = self._count = self._new = self._changed = self._now = 0
        self._due = 1
        """Number of new examples after which all are learned again."""
        self._fresh, self._awaited = 1.0, 0.0
        """The importance of a new refusal; the number of examples that the kept ones are short of, as rewards are
        awaited."""
        self._kept = self._room_for(64)
        self._steps = np.zeros(MOST_RECENT, np.uint8)
        """By kept example with a reward, the step in which it came."""

    @property
    def kept(self) -> Examples:
        """The latest examples, with their outcomes of now."""
        return _part(self._kept, slice(self._count))

    def learn(self, examples: Examples) -> int:
        """Learn from examples in their order, and return the number of the first; the others have the next numbers."""
        first, done = self._first + self._count, 0
        while done < len(examples.reward):
            take = min(self._due - self._new, MOST_RECENT - self._count, len(examples.reward) - done)
            some = _part(examples, slice(done, done + take))
            self._keep(some)
            self.model.update(some._replace(importance=some.importance * np.where(some.reward > 0, 1.0, self._fresh)))
            done, self._new = done + take, self._new + take
            if self._count == MOST_RECENT:
                self._fold(self._count // FOLDED)
            if self._new == self._due:
                self._mix()
        return first

    def revise(self, number: int, labels: tuple[Label, Label], example: Examples, second: int) -> None:
        """Exchange the label of an example before for the one after, at a second. The example is given once more.

        One that is not kept any more, or of an unknown number (below 0), is made up for by another example.
        """
        self.revised += 1
        before, after = labels
        if number < self._first:
            self.learn(self._correction(before, after, example))
            return
        at, kept = number - self._first, self._kept
        kept.reward[at], kept.importance[at] = after
        self._steps[at] = step_of(second - float(kept.time[at]), self._settle_s)
        self._changed += 1
        self._now = max(self._now, second)
        if self._changed >= self._most_changed():
            self._mix()

    def rest(self, second: int) -> None:
        """Learn the latest examples again if enough of them have changed, as no others came until a second."""
        self._now = max(self._now, second)
        is_revised = self._changed and 8 * self._changed >= self._most_changed()
        if is_revised or max(self._new, self._awaited) > self._count // RESTED_AFTER:
            self._mix()

    def forget(self, lost: NDArray[np.bytes_], second: int) -> int:
        """Remove the examples of decisions that the log has lost by a second. Returns how many.

        Those of erased decisions are removed from the model as well. The oldest ones, if they are older than the least
        retention of a log (a day), count as expired: they are learned for good.
        """
        rows = self.kept
        is_lost = np.isin(rows.decision, lost)
        if not is_lost.any():
            return 0
        others = np.flatnonzero(~(is_lost & (rows.time < second - DAY_S)))
        expired = int(others[0]) if len(others) else self._count
        self._fold(expired)
        erased, kept = np.flatnonzero(is_lost[expired:]), self._kept
        kept.keys[erased], kept.decision[erased] = MISSING, b""  # the rows stay, as others are known by their numbers
        kept.reward[erased] = kept.importance[erased] = self._steps[erased] = 0
        self.revised += len(erased)
        self._mix()
        return expired + len(erased)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that `restored` needs."""
        found = {f"model.{name}": array for name, array in self.model.arrays().items()}
        if self._first:
            found |= {f"before.{name}": array for name, array in self._before.arrays().items()}
        found |= {f"kept.{name}": getattr(self._kept, name)[: self._count] for name in _KEPT}
        counts = [self._first, self._new, self._changed, self._due, self.revised, self._now]
        shares = np.array([self._fresh, self._awaited])
        steps = self._steps[: self._count]
        return found | {"counts": np.array(counts), "shares": shares, "steps": steps}

    @classmethod
    def restored(cls, features: Features, settle_s: int, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model as it was when `arrays` gave these."""
        own = cls(features, settle_s)
        for prefix, model in (("model.", own.model), ("before.", own._before)):
            for name, array in model.arrays().items():
                if prefix + name in arrays:
                    array[:] = arrays[prefix + name]
        own._first, own._new, own._changed, own._due, own.revised, own._now = arrays["counts"].tolist()
        own._fresh, own._awaited = arrays["shares"].tolist()
        kept = {name: arrays[f"kept.{name}"] for name in _KEPT}
        own._kept = own._room_for(max(64, len(kept["reward"])))
        own._keep(Examples(numbers=_NO_NUMBERS, **kept))
        own._steps[: own._count] = arrays["steps"]
        return own

    def _most_changed(self) -> int:
        """Return the number of revisions after which all are learned again."""
        rewards = int(np.count_nonzero(self._kept.reward[: self._count]))
        return max(rewards // REVISED_AFTER, self._count // LEAST_REVISED)

    def _mix(self) -> None:
        """Learn the kept examples again."""
        self._new = self._changed = 0
        self._due = max(1, self._count // MIXED_AFTER, (self._count - MANY) // MIXED_AFTER_OF_MANY)
        for array, before in zip(self.model.arrays().values(), self._before.arrays().values(), strict=True):
            array[:] = before
        rows = self.kept
        if not self._count:
            self._awaited = 0.0
            return
        self._now = max(self._now, int(rows.time.max()) + self._settle_s)
        age, is_rewarded = (self._now - rows.time).astype(np.float64), rows.reward > 0
        shares = shares_of(self._steps[: self._count][is_rewarded], age[is_rewarded], self._settle_s)
        self._fresh = float(shares[0])
        importance = counted(rows.reward, rows.importance, come_by(shares, age, self._settle_s), self._before.seen)
        self._awaited = float((rows.importance - importance).sum())
        self._learn_mixed(self.model, rows._replace(importance=importance))

    def _fold(self, count: int) -> None:
        """Learn a number of the kept examples, the oldest, for good."""
        self._learn_mixed(self._before, _part(self._kept, slice(count)))
        self._first, self._count = self._first + count, self._count - count
        for name in _KEPT:
            array = getattr(self._kept, name)
            array[: self._count] = array[count : count + self._count].copy()
        self._steps[: self._count] = self._steps[count : count + self._count].copy()

    def _learn_mixed(self, model: Propensity, rows: Examples) -> None:
        """Have a model learn the oldest of the kept examples, faded as if each had been learned on its own day."""
        order = spread(self._strata(rows), self._first)
        order = order[rows.importance[order] > 0]
        if not len(order):
            return
        latest = max(int(rows.time.max()) // DAY_S, int(model.seen[2]))
        faded = 0.5 ** ((latest - rows.time[order] // DAY_S) / model.half_life_days)
        time = np.full(len(order), latest * DAY_S)
        model.update(Examples(rows.keys[order], _NO_NUMBERS, rows.reward[order], rows.importance[order] * faded, time))

    def _strata(self, rows: Examples) -> NDArray[np.uint64]:
        """Return for each example the number of its stratum: its offer, and whether there was a reward."""
        of_offer = rows.keys[:, self._offer] if self._offer is not None else np.zeros(len(rows.keys), np.uint64)
        return _hashed(of_offer ^ (rows.reward > 0))

    def _correction(self, before: Label, after: Label, example: Examples) -> Examples:
        """Return one more example that makes up for another outcome of one that was learned.

        An outcome r of importance w pulls by w (r - p), where p is the probability foreseen. The difference of two is
        made up by a reward, which pulls by 1 - p, or a refusal, which pulls by -p. In the long run the probabilities
        are then right: while some of the kept examples wait for their reward, others make up for older ones.
        """
        size = self.model.features.request_size
        (chance,) = self.model.predict(example.keys[0, :size], example.keys[:, size:]).probability().tolist()
        pull = after.importance * (after.reward - chance) - before.importance * (before.reward - chance)
        importance = min(pull / max(1 - chance, 1e-9) if pull > 0 else -pull / max(chance, 1e-9), MOST_IMPORTANCE)
        return example._replace(reward=np.array([float(pull > 0)]), importance=np.array([importance]))

    def _keep(self, some: Examples) -> None:
        last = self._count + len(some.reward)
        decision = some.decision if len(some.decision) else b""
        self._steps[self._count : last] = 0
        if last > len(self._kept.reward):
            wider = self._room_for(min(MOST_RECENT, max(last, 2 * len(self._kept.reward))))
            for name in _KEPT:
                getattr(wider, name)[: self._count] = getattr(self._kept, name)[: self._count]
            self._kept = wider
        for name in _KEPT:
            getattr(self._kept, name)[self._count : last] = getattr(some, name) if name != "decision" else decision
        self._count = last

    def _room_for(self, count: int) -> Examples:
        columns = len(self.model.features.attributes)
        reward, importance = np.empty((2, count))
        keys, times = np.empty((count, columns), np.uint64), np.empty(count, np.int64)
        return Examples(keys, _NO_NUMBERS, reward, importance, times, np.empty(count, DECISION))


def _part(examples: Examples, part: slice) -> Examples:
    keys, _, *others = examples
    return Examples(keys[part], _NO_NUMBERS, *(column[part] for column in others))


def spread(stratum: NDArray[np.uint64], first: int) -> NDArray[np.int64]:
    """Return an order of examples in which those of each stratum are spread evenly, and mixed among themselves.

    A model of few examples is moved most by the last ones. In a random order these have by chance more rewards or fewer
    than all have. `first` is the number of the first example, from which the order is drawn.
    """
    count = len(stratum)
    drawn = _hashed(np.arange(first, first + count).astype(np.uint64))
    order = np.lexsort((drawn, stratum))
    begins = np.flatnonzero(np.append(True, stratum[order[1:]] != stratum[order[:-1]]))
    sizes = np.diff(np.append(begins, count))
    begin, size = np.repeat(begins, sizes), np.repeat(sizes, sizes)
    offset = drawn[order[begin]] / 2.0**64  # one for each stratum
    return order[np.argsort((np.arange(count) - begin + offset) / size, kind="stable")]


def _hashed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of each number (the finalizer of SplitMix64), the same in all versions of numpy."""
    found = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
