"""Workers follow the models that a learner publishes: the engines have the last good one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.learning.learner import Learner
from offers.server.live import Live
from offers.server.process import models
from offers.server.process.models import ModelFollower
from offers.state.sqlite.events import SqliteEvents
from offers.state.sqlite.file import Database
from tests.learning.made_log import NOON, OFFERS, happenings, write

DOCUMENT = """
catalog_id: {name}
offers:
  - {{offer_id: one, title: One, benefit: {{percent_off: 10}}, target: {{everywhere: true}}}}
"""


class Publishing:
    """A learner that publishes when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "learning"
        self._log = SqliteEvents(Database(folder / "state.db"))
        self._learner = Learner(self._log, self.folder, OFFERS, bits=10)
        self._told = 0

    def publish(self) -> str:
        """Learn some more, and publish: the version."""
        write(self._log, *happenings(20, first=20 * self._told))
        self._told += 1
        while self._learner.step(float("inf")):
            pass
        self._learner.training.pass_time(NOON + 86_400 * self._told)
        model = self._learner.publish()
        assert model is not None
        return model.version

    def close(self) -> None:
        """Let go of files."""
        self._learner.close()
        self._log.close()


@pytest.fixture
def publishing(tmp_path: Path) -> Iterator[Publishing]:
    """A learner with something to learn."""
    one = Publishing(tmp_path)
    yield one
    one.close()


def engine(folder: Path, name: str) -> Engine:
    """The engine of a small catalogue."""
    path = folder / f"{name}.yaml"
    path.write_text(DOCUMENT.format(name=name))
    return Engine(open_snapshot(publish(path, folder / "data").path))


def used(live: Live) -> list[str]:
    """The versions of the models that the engines use."""
    models_ = [one._learned[0] for one in live.engines()]  # noqa: SLF001 - what decisions ask
    return [one.version if one else "" for one in models_]


def test_engines_have_the_current_model(tmp_path: Path, publishing: Publishing) -> None:
    """What is published is given to all engines, and to those swapped in later; before that they have none."""
    live = Live([engine(tmp_path, "a"), engine(tmp_path, "b")])
    follower = ModelFollower(live, publishing.folder)
    follower.look()
    assert ["", ""] == used(live)
    for _ in range(5):  # of which the last three are kept
        version = publishing.publish()
        follower.look()
        assert [version] * 2 == used(live)
    live.swap([*live.engines(), engine(tmp_path, "c")])
    assert [version] * 3 == used(live)
    live.use_model(None)
    assert [""] * 3 == used(live)


@pytest.mark.parametrize("gone", ["model", "pointer", "all"])
def test_the_last_good_model_stays(
    tmp_path: Path, publishing: Publishing, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Where the next model is damaged, or the file that names it, or all has gone, that is logged, and engines keep
    theirs until there is a good one.
    """  # noqa: D205
    monkeypatch.setattr(models, "RETRY_S", 0.0)
    live = Live([engine(tmp_path, "a")])
    follower = ModelFollower(live, publishing.folder)
    good = publishing.publish()
    follower.look()
    publishing.publish()
    pointer = publishing.folder / "current.json"
    if gone == "model":
        for one in (publishing.folder / "models").glob("*/click.weight.npy"):
            one.write_bytes(b"broken")
    elif gone == "pointer":
        pointer.write_text("{")
    else:
        pointer.unlink()
    with capture_logs() as logs:
        follower.look()
        follower.look()
    assert [good] == used(live)
    assert {"model_gone" if gone == "all" else "model_refused"} == {
        line["event"] for line in logs if line["event"] != "model_unusable"
    }
    assert {good} == {line["still_using"] for line in logs if "still_using" in line}
    newer = publishing.publish()
    follower.look()
    assert [newer] == used(live)


def test_a_worker_that_begins_takes_the_last_good_one(tmp_path: Path, publishing: Publishing) -> None:
    """Where the newest model is damaged when a worker begins, it has the one before."""
    good = publishing.publish()
    bad = publishing.publish()
    (publishing.folder / "models" / bad / "manifest.json").unlink()
    live = Live([engine(tmp_path, "a")])
    ModelFollower(live, publishing.folder).look()
    assert [good] == used(live)
