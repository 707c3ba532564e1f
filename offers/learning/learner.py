"""Learns from the log, keeps what it knows where no crash can harm it, and publishes models that are no worse."""

import fcntl
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from offers.errors import ConflictError, SnapshotError
from offers.learning.course import REVIEW_GROWTH, Course, Log, Position
from offers.learning.kept import alone, latest, prune
from offers.learning.model import Model, open_model, write_model
from offers.learning.outcomes import Asked
from offers.learning.promotion import worse
from offers.learning.propensity.features import DEFAULT_BITS, Features
from offers.learning.propensity.grown import FOLDER as TREES
from offers.learning.propensity.grown import Grown, Growth, grow
from offers.learning.propensity.regression import HALF_LIFE_DAYS, Propensity
from offers.learning.values import Offers, features_for, written_scales

LAG_S = 2
"""How many seconds behind the clock the learner stays while the log is written: decisions come a moment late."""
PUBLISH_S, CHECKPOINT_S, FORGET_S = 1.0, 30.0, 3600.0
KEPT_MODELS = 3
REFUSALS_TOLD = 5
FOLDER = "learning"
"""Of the data folder: where a server's learner is at work."""
CURRENT = "current.json"
_NEVER = (0, "")

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Learner:
    """One learner per folder, which holds: `models`, a directory for each published one; `current.json`, which names
    the one to use; `checkpoint`, all that the learner knows; and `trees`, what was grown last, if anything was.
    Raises ConflictError where another learner is at work there.
    """  # noqa: D205

    def __init__(
        self,
        events: Log,
        folder: Path,
        offers: Offers,
        *,
        bits: int = DEFAULT_BITS,
        anew: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """`anew`: forget what was learned and grown, and learn the log from its beginning; what is published stays
        until then. `stop` tells when to leave off learning from the log again.
        """  # noqa: D205
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # what is kept there tells of people
        self._lock = _locked(folder / "lock")
        self._stop = stop
        self._log, self.folder, self._offers = events, folder, offers
        self._bits = bits
        if anew:
            _forget_trees(folder)
        self._grown = Grown(folder)
        self._asked = Asked(offers, events.decisions)
        kept = latest(folder / "checkpoint")
        if kept and kept.meta["bits"] == bits and not anew:
            self.course = Course.restored(events, self._asked, kept)
            self.course.collector.forget()
            self.refused: list[str] = kept.meta["refused"]
            """Why models were not promoted of late, in words."""
            self._declined = set(kept.meta["declined"])
        else:
            self.course = self._begun(features_for([], offers.attributes, bits, offers.interactions))
            self.refused, self._declined = [], set()
        self._sequence = kept.meta["sequence"] if kept else 0
        self._published = _NEVER
        self._is_fitted = True
        """Whether the course has the features it is to have: else learning from the log again was stopped."""
        if anew:
            self.checkpoint()  # else a crash would bring back what was known
        self._fit(self.course.collector.counted())
        current = current_model(folder)
        if current:
            self._compare_with(current)
            learned = {
                "position": self.course.position._asdict(),
                "features": self.course.features.as_json(),
                "scales": written_scales(self.course.scales),
            }
            if not anew and learned == {name: current.meta[name] for name in learned}:
                self._published = (self._learned(), current.meta["grown"])

    def know(self, offers: Offers) -> None:
        """Take up what catalogues now tell. Where they tell of other attributes, what is a feature has become
        sensitive, or orders are measured by something else, models are learned from the log again.
        """  # noqa: D205
        self._offers, self._asked = offers, self._asked._replace(offers=offers)
        self.course.collector.know(offers)
        self._fit(self.course.collector.counted())

    def step(self, horizon: float) -> int:
        """Learn the next page of the log, up to a second of its clock. Returns how many events and decisions it had."""
        self._review()  # if the last one was stopped
        count = self.course.step(horizon)
        self._review()
        return count

    def checkpoint(self) -> None:
        """Keep all that is known, so that it survives whatever happens next."""
        arrays, said = self.course.kept()
        self._sequence += 1
        said |= {
            "sequence": self._sequence,
            "bits": self._bits,
            "refused": self.refused,
            "declined": sorted(self._declined),
        }
        prune(self.folder / "checkpoint", {write_model(self.folder / "checkpoint", arrays, said).name})

    def publish(self) -> Model | None:
        """Publish the models, with the trees grown last, unless nothing was learned or grown since, or they are worse
        than those published, or are to have other features, which was stopped: then None.
        """  # noqa: D205
        if not self._is_fitted:
            return None
        learned, grown = self._learned(), self._grown.version()
        if not learned or (learned, grown) == self._published:
            return None
        self._published = (learned, grown)
        for name, recent in self.course.recent.items():
            if why := worse(*recent.of_both()):
                self._refuse(f"the model of {name} at event {self.course.position.event}: {why}")
                return None
        arrays = {
            f"{name}.{part}": array
            for name, model in self.course.taught.items()
            for part, array in model.arrays().items()
        }
        trees = self._grown.trees(self.course.features, self.course.scales)
        for name, one in trees.items():
            arrays |= {f"{name}.trees.{part}": array for part, array in one.arrays().items()}
        recommend, recommend_said = self.course.visited.published()
        arrays |= recommend
        said = {
            "recommend": recommend_said,
            "features": self.course.features.as_json(),
            "half_life_days": HALF_LIFE_DAYS,
            "rewards": list(self.course.taught),
            "scales": written_scales(self.course.scales),
            "trees": sorted(trees),
            "grown": grown,
            "position": self.course.position._asdict(),
            "figures": self.figures(),
            "refused": self.refused,
        }
        path = write_model(self.folder / "models", arrays, said)
        model = open_model(path)
        versions = [path.name, *(one for one in _versions(self.folder) if one != path.name)][:KEPT_MODELS]
        _write(self.folder / CURRENT, orjson.dumps({"version": path.name, "versions": versions}))
        prune(self.folder / "models", set(versions))
        self._compare_with(model)
        log.info("model_published", version=model.version, position=self.course.position.event)
        return model

    def figures(self) -> dict[str, Any]:
        """What was learned from, and how well the last examples of each reward were foreseen."""
        counts = self.course.collector.counts
        told: dict[str, Any] = {name: getattr(counts, name) for name in counts.__slots__}
        return told | {name: self.course.recent[name].figures() for name in self.course.taught}

    def grow(self, stop: Callable[[], bool]) -> list[Growth]:
        """Grow trees from all that the log has, to be published from now on. Raises as `grown.grow`."""
        return grow(self._log, self._asked, self.course.features, self.folder, stop)

    def catch_up(self, stop: Callable[[], bool], tell: Callable[[int], object]) -> None:
        """Learn what the log has now, or until `stop` says so, and publish it. Tells how many records were learned."""
        self._stop = stop
        kept, done = time.monotonic(), 0
        while not stop() and (count := self.step(math.inf)):
            done += count
            tell(done)
            if time.monotonic() - kept >= CHECKPOINT_S:
                self.checkpoint()
                kept = time.monotonic()
        self.publish()
        self.checkpoint()

    def run(
        self,
        stop: Callable[[], bool],
        clock: Callable[[], float] = time.time,
        idle_s: float = 0.1,
        look: Callable[[], Offers | None] = lambda: None,
    ) -> None:
        """Follow the log until `stop` says so: publish at most every PUBLISH_S, and keep all every CHECKPOINT_S.

        `look` gives what catalogues tell, if it is other than before.
        """
        self._stop = stop
        published = forgot = kept = time.monotonic()
        while not stop():
            count = self.step(clock() - LAG_S)
            now = time.monotonic()
            if now - published >= PUBLISH_S:
                if told := look():
                    self.know(told)
                self.publish()
                published = now
            if now - forgot >= FORGET_S:
                self.course.collector.forget()
                forgot = now
            if now - kept >= CHECKPOINT_S:
                self.checkpoint()
                kept = now
            if not count:
                time.sleep(idle_s)
        self.publish()
        self.checkpoint()

    def close(self) -> None:
        """Let others learn in this folder."""
        os.close(self._lock)

    def _begun(self, features: Features) -> Course:
        return Course(self._log, self._asked, features)

    def _learned(self) -> int:
        return self.course.learned

    def _review(self) -> None:
        """Count attributes up, where it is time to: what has become frequent is to be a feature."""
        course, due = self.course, self.course.review
        if course.collector.counts.decisions >= due:
            course.review = int(due * REVIEW_GROWTH) + 1
            self._fit(course.collector.frequent())
            if not self._is_fitted:
                course.review = due

    def _fit(self, counted: list[str]) -> None:
        """Let features be these attributes of requests and persons, and what catalogues tell of offers; let orders be
        measured by what they say.

        Where they are others, models that know them are learned from the log, and take the place of these: whatever
        they are like where something may not be known any more, or orders are measured otherwise, and if they foresee
        as well where only more is known. If that is stopped, all stays, to be fitted at the next start.
        """  # noqa: D205
        course = self.course
        features = features_for(counted, self._offers.attributes, self._bits, self._offers.interactions)
        known, wanted = _named(course.features), _named(features)
        new, gone = wanted - known, known - wanted
        is_other, is_rescaled = bool(new - self._declined or gone), course.scales != self._offers.scales
        self._is_fitted = not (is_other or is_rescaled)
        if self._is_fitted:
            return
        log.info("learning_again", new=sorted(new), gone=sorted(gone), order_value_scales=is_rescaled)
        other = self._begun(features if is_other else course.features)
        other.review = course.review
        while not self._stop() and other.step(math.inf, course.position):
            pass
        if self._stop():
            return
        self._is_fitted = True
        for name, recent in course.recent.items():
            if not (gone or is_rescaled) and (why := worse(other.recent[name].of_candidate(), recent.of_candidate())):
                self._refuse(f"the model of {name} with {', '.join(sorted(new))}: {why}")
                self._declined |= new
                return
        self.course, self._published = other, _NEVER

    def _refuse(self, why: str) -> None:
        self.refused = [*self.refused, why][-REFUSALS_TOLD:]
        log.warning("model_not_promoted", reason=why)

    def _compare_with(self, model: Model) -> None:
        """Let what comes be foreseen by a published model as well."""
        told = model.meta["features"], model.meta["scales"]
        if told == (self.course.features.as_json(), written_scales(self.course.scales)):
            self.course.compare_with(propensities(model), Position(**model.meta["position"]))


def _named(features: Features) -> set[str]:
    """The interactions of features, as they are told."""
    return {" x ".join(one.attributes) for one in features.interactions}


def propensities(model: Model) -> dict[str, Propensity]:
    """The models of a published one, by reward, over its arrays."""
    features, half_life_days = Features.of_json(model.meta["features"]), model.meta["half_life_days"]
    return {
        name: Propensity(features, model.arrays[f"{name}.weight"], model.arrays[f"{name}.seen"], half_life_days)
        for name in model.meta["rewards"]
    }


def current_model(folder: Path) -> Model | None:
    """The model that is to be used: the published one, else the last good one before it; None: there is none."""
    for version in _versions(folder):
        try:
            return open_model(folder / "models" / version)
        except SnapshotError as error:
            log.warning("model_unusable", error=str(error))
    return None


def _versions(folder: Path) -> list[str]:
    """The models that are kept, the current one first."""
    try:
        found: list[str] = orjson.loads((folder / CURRENT).read_bytes())["versions"]
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
    """Remove what was grown: it may be of persons who were erased since."""
    with alone(folder / TREES):
        if (folder / TREES).exists():
            shutil.rmtree(folder / TREES)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConflictError(f"another learner is at work in {path.parent}: stop it first") from None
    return descriptor
