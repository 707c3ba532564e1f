"""Learns from the log, saves its state in checkpoints, and publishes models that are no worse than those before.

A server's folder of models holds:

    lock          held by the one learner
    models/       a directory for each published model
    current.json  the versions of the published models, the current one first
    checkpoint/   the learner's whole state
    trees/        the trees that were grown last, if any
"""

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog
from numpy.typing import NDArray

from offers import memory
from offers.errors import SnapshotError
from offers.files import read_regular
from offers.learning.log_reading import LearningLog, LogPosition
from offers.learning.model import Model, open_model, write_model
from offers.learning.model_folder import exclusive, latest, locked, prune
from offers.learning.promotion import worse
from offers.learning.propensity.features import DEFAULT_BITS, Features
from offers.learning.propensity.regression import HALF_LIFE_DAYS, Propensity
from offers.learning.propensity.tree_training import FOLDER as TREES
from offers.learning.propensity.tree_training import TreeFolder, TreeReport, grow
from offers.learning.settling import Lookups
from offers.learning.training import REVIEW_GROWTH, Training
from offers.learning.values import CatalogueFacts, features_for, written_scales

LAG_S = 2
"""Seconds the learner stays behind the clock while the log is written, as decisions are logged a moment late."""
CHECKPOINT_S = 30.0
CHECKPOINT_FORM = 3
"""Number of what checkpoints hold: the log is learned again where one holds something else."""
KEPT_MODELS = 3
REFUSALS_TOLD = 5
FOLDER = "learning"
"""Folder of a server's learner in its data folder."""
CURRENT = "current.json"
_NEVER = (0, "")

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Learner:
    """The one learner of a folder. Raises ConflictError where another learner is at work there."""

    def __init__(
        self,
        events: LearningLog,
        folder: Path,
        catalogues: CatalogueFacts,
        *,
        bits: int = DEFAULT_BITS,
        anew: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open the folder, and go on from its checkpoint if there is one.

        `bits` is the binary logarithm of the number of weights. With `anew`, what was learned and grown is forgotten
        and the log is learned from its beginning; published models stay until then. `stop` interrupts learning the log
        again.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # checkpoints hold data of persons
        self.stop = stop
        """Whether learning the log again is to be left off."""
        self._log, self.folder, self._catalogues = events, folder, catalogues
        self._bits = bits
        self._lock = locked(folder / "lock")
        try:
            self._open(anew=anew)
        except BaseException:
            self.close()
            raise

    def _open(self, *, anew: bool) -> None:
        """Go on from the checkpoint, or begin."""
        events, folder, bits = self._log, self.folder, self._bits
        if anew:
            _forget_trees(folder)
        self._grown = TreeFolder(folder)
        self._lookups = Lookups(self._catalogues, events.decisions)
        saved = latest(folder / "checkpoint")
        if saved and saved.meta["bits"] == bits and saved.meta.get("form") == CHECKPOINT_FORM and not anew:
            self.training = Training.restored(events, self._lookups, saved)
            self.training.collector.forget_erased()
            self._log_identity: str = saved.meta.get("log", "")
            self.refused: list[str] = saved.meta["refused"]
            """Why models were not promoted lately, in words."""
            self._declined = set(saved.meta["declined"])
        else:
            self.training = self._first_training()
            self.refused, self._declined, self._log_identity = [], set(), ""
        self._sequence = saved.meta["sequence"] if saved else 0
        self._published = _NEVER
        self._other: Training | None = None
        """The training that learns the log again."""
        self._is_behind = False
        """Whether the log was replaced and has not been learned again yet."""
        self._is_fitted = True
        """Whether the features are as they should be; False: learning the log again with others was stopped."""
        if anew:
            self.checkpoint()  # else a crash would bring back what is to be forgotten
        self.check_log()
        self._fit(self.training.collector.counted())
        current = current_model(folder)
        if current and not self._is_behind:
            self._compare_with(current)
            learned = self._progress()
            if not anew and learned == {name: current.meta[name] for name in learned}:
                self._published = (self.training.learned, current.meta["grown"])

    def update_catalogues(self, catalogues: CatalogueFacts) -> None:
        """Replace what catalogues tell.

        The log is learned again where they have other attributes, where a feature has become sensitive, or where
        orders are measured on another scale.
        """
        self._catalogues, self._lookups = catalogues, self._lookups._replace(catalogues=catalogues)
        self.training.collector.update_catalogues(catalogues)
        self._fit(self.training.collector.counted())

    def check_log(self) -> None:
        """Learn anew, before anything more is published, where the log is another one or has lost its end."""
        identity, event, decision = self._log.end()
        known, position = self._log_identity or identity, self.training.position
        self._log_identity = identity
        if identity == known and event >= position.event and decision >= position.decision:
            return
        log.warning("log_replaced", **self._read())
        self.training, self._other, self._published = self._first_training(), None, _NEVER
        self._is_behind = True

    def step(self, horizon: float) -> int:
        """Learn the next page of the log, up to a second of its clock, and return how many entries it had."""
        if not self._is_fitted:
            self._fit(self.training.collector.counted())
        self._review()  # if the last one was stopped
        counts = self.training.collector.counts
        unreadable = counts.unreadable
        try:
            count = self.training.step(horizon)
        finally:
            if counts.unreadable > unreadable:
                log.warning("log_unreadable", entries=counts.unreadable - unreadable, **self._read())
        self._review()
        self._is_behind = self._is_behind and count > 0
        return count

    def forget_erased(self) -> None:
        """Forget the decisions that the log has lost since the last time."""
        self.training.collector.forget_erased()

    def checkpoint(self) -> None:
        """Save the whole state, so that it survives a crash."""
        arrays, saved = self.training.to_save()
        self._sequence += 1
        saved |= {
            "sequence": self._sequence,
            "bits": self._bits,
            "form": CHECKPOINT_FORM,
            "log": self._log_identity,
            "refused": self.refused,
            "declined": sorted(self._declined),
        }
        prune(self.folder / "checkpoint", {write_model(self.folder / "checkpoint", arrays, saved).name})
        del arrays, saved
        memory.release()  # a checkpoint needs a third of what the learner has, for a moment

    def publish(self) -> Model | None:
        """Publish the models together with the trees grown last.

        Returns None, and publishes nothing, where nothing was learned or grown since the last time, where a model is
        worse than the published one, or where learning the log again was stopped.
        """
        if self._is_behind or not self._is_fitted:
            return None
        learned, grown = self.training.learned, self._grown.version()
        if not learned or (learned, grown) == self._published:
            return None
        for name, recent in self.training.recent.items():
            if why := worse(*recent.of_both()):
                self._published = (learned, grown)
                self._refuse(f"the model of {name} at event {self.training.position.event}: {why}")
                return None
        path = write_model(self.folder / "models", *self._contents(grown))
        model = open_model(path)
        versions = [path.name, *(one for one in _versions(self.folder) if one != path.name)][:KEPT_MODELS]
        _write(self.folder / CURRENT, orjson.dumps({"version": path.name, "versions": versions}))
        self._published = (learned, grown)  # only now, so that a failed attempt is made again
        prune(self.folder / "models", set(versions))
        self._compare_with(model)
        log.info("model_published", version=model.version, position=self.training.position.event)
        return model

    def _contents(self, grown: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the arrays and meta to publish, with the trees of a version."""
        arrays = {
            f"{name}.{part}": array
            for name, model in self.training.taught.items()
            for part, array in model.arrays().items()
        }
        trees = self._grown.trees(self.training.features, self.training.scales)
        for name, one in trees.items():
            arrays |= {f"{name}.trees.{part}": array for part, array in one.arrays().items()}
        recommend, recommend_meta = self.training.visits.published()
        progress = self._progress()
        return arrays | recommend, {  # in this order always: it is part of the version
            "recommend": recommend_meta,
            "features": progress["features"],
            "half_life_days": HALF_LIFE_DAYS,
            "rewards": list(self.training.taught),
            "scales": progress["scales"],
            "trees": sorted(trees),
            "grown": grown,
            "position": progress["position"],
            "figures": self.figures(),
            "refused": self.refused,
        }

    def _progress(self) -> dict[str, Any]:
        """Return how far the log was learned, with which features and scales."""
        return {
            "position": self.training.position._asdict(),
            "features": self.training.features.as_json(),
            "scales": written_scales(self.training.scales),
        }

    def figures(self) -> dict[str, Any]:
        """Return counts of the log, and by reward how well the last examples were foreseen."""
        counts = self.training.collector.counts
        told: dict[str, Any] = {name: getattr(counts, name) for name in counts.__slots__}
        return told | {name: self.training.recent[name].figures() for name in self.training.taught}

    def grow(self, stop: Callable[[], bool]) -> list[TreeReport]:
        """Grow trees from the whole log, to be published from now on. Raises as `tree_training.grow`."""
        return grow(self._log, self._lookups, self.training.features, self.folder, stop)

    def catch_up(
        self, stop: Callable[[], bool], tell: Callable[[int], object], clock: Callable[[], float] = time.time
    ) -> None:
        """Learn what the log has now, or until `stop` says so, and publish it. `tell` gets the number of entries."""
        self.stop = stop
        saved, done = time.monotonic(), 0
        while not stop() and (count := self.step(math.inf)):
            done += count
            tell(done)
            if time.monotonic() - saved >= CHECKPOINT_S:
                self.checkpoint()
                saved = time.monotonic()
        if not stop():
            self.training.pass_time(clock() - LAG_S)
        self.publish()
        self.checkpoint()

    def close(self) -> None:
        """Release the folder to other learners."""
        os.close(self._lock)

    def _first_training(self) -> Training:
        return self._new_training(self._features_for([]))

    def _features_for(self, counted: list[str]) -> Features:
        return features_for(counted, self._catalogues.attributes, self._bits, self._catalogues.interactions)

    def _new_training(self, features: Features) -> Training:
        return Training(self._log, self._lookups, features)

    def _read(self) -> dict[str, int]:
        """Return how far the log was read, for a line of the server's log."""
        return {"last_event": self.training.position.event, "last_decision": self.training.position.decision}

    def _review(self) -> None:
        """Make attributes that have become frequent features, when the next review is reached."""
        training, due = self.training, self.training.review
        if training.collector.counts.decisions >= due:
            training.review = int(due * REVIEW_GROWTH) + 1
            try:
                self._fit(training.collector.frequent())
            finally:
                if not self._is_fitted:
                    training.review = due

    def _fit(self, counted: list[str]) -> None:
        """Change the features to some attributes of requests and persons with the offer attributes of catalogues.

        Where features or scales of order values change, the log is learned again, and the new training replaces this
        one. It does so in any case where an attribute may not be used any more or a scale has changed; where there are
        only more features, it must foresee as well as this one. If learning is stopped, all stays as it is, and the
        next start tries again.
        """
        training = self.training
        features = self._features_for(counted)
        known, wanted = _named(training.features), _named(features)
        new, gone = wanted - known, known - wanted
        is_other, is_rescaled = bool(new - self._declined or gone), training.scales != self._catalogues.scales
        self._is_fitted = not (is_other or is_rescaled)
        if self._is_fitted:
            return
        if self._other is None:
            log.info("learning_again", new=sorted(new), gone=sorted(gone), order_value_scales=is_rescaled)
        other = self._half_learned(features if is_other else training.features)
        other.review = training.review
        while not self.stop() and other.step(math.inf, training.position):
            pass
        if self.stop():
            return
        other.pass_time(training.collector.clock)
        self._is_fitted, self._other = True, None
        for name, recent in training.recent.items():
            if not (gone or is_rescaled) and (why := worse(other.recent[name].of_candidate(), recent.of_candidate())):
                self._refuse(f"the model of {name} with {', '.join(sorted(new))}: {why}")
                self._declined |= new
                return
        self.training, self._published = other, _NEVER

    def _half_learned(self, features: Features) -> Training:
        """Return a training of features: the one that the store interrupted, if it has these, or else a new one."""
        other = self._other
        told = features.as_json(), self._catalogues.scales
        if other is None or (other.features.as_json(), other.scales) != told:
            other = self._other = self._new_training(features)
        other.collector.update_catalogues(self._catalogues)
        return other

    def _refuse(self, why: str) -> None:
        self.refused = [*self.refused, why][-REFUSALS_TOLD:]
        log.warning("model_not_promoted", reason=why)

    def _compare_with(self, model: Model) -> None:
        """Have a published model foresee the coming decisions as well."""
        told = model.meta["features"], model.meta["scales"]
        if told == (self.training.features.as_json(), written_scales(self.training.scales)):
            self.training.compare_with(propensities(model), LogPosition(**model.meta["position"]))


def _named(features: Features) -> set[str]:
    """Return the interactions of features, as logs tell them."""
    return {" x ".join(one.attributes) for one in features.interactions}


def propensities(model: Model) -> dict[str, Propensity]:
    """Return the propensity models of a published model, by reward, over its arrays."""
    features, half_life_days = Features.of_json(model.meta["features"]), model.meta["half_life_days"]
    return {
        name: Propensity(features, model.arrays[f"{name}.weight"], model.arrays[f"{name}.seen"], half_life_days)
        for name in model.meta["rewards"]
    }


def current_model(folder: Path) -> Model | None:
    """Return the published model, or the last good one before it; None where there is none."""
    for version in _versions(folder):
        try:
            return open_model(folder / "models" / version)
        except SnapshotError as error:
            log.warning("model_unusable", error=str(error))
    return None


def _versions(folder: Path) -> list[str]:
    """Return the versions of the published models, the current one first."""
    try:
        found = [str(one) for one in orjson.loads(read_regular(folder / CURRENT))["versions"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("model_unusable", error=f"{folder / CURRENT} cannot be read: {error!r}")
        return []
    return found


def _write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _forget_trees(folder: Path) -> None:
    """Remove the trees: they may have been grown from persons who were erased since."""
    with exclusive(folder / TREES):
        if (folder / TREES).exists():
            shutil.rmtree(folder / TREES)
