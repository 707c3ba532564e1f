"""`offers learn` over the log of a server: a model out of it, once or as it comes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from offers.learning.learner import current_model, propensities
from offers.learning.propensity.features import CATEGORY
from offers.settings import read_settings
from offers.state.opening import open_stores
from tests.learning.made_log import happenings, write
from tests.paths import ROOT, environment
from tests.server.running import wait_for

CATALOG = """
catalog_id: corner
time_zone: Europe/Paris
offers:
  - {offer_id: o4, title: Lunch, category: shoes, benefit: {percent_off: 20}, target: {everywhere: true}}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a log of 300 decisions, and a catalogue beside it."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    stores = open_stores(read_settings(data_dir=tmp_path / "data"))
    write(stores.events, *happenings(300))
    stores.close()
    return tmp_path / "data"


def begin(data: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command, as a process of its own: it sets up logging and signals."""
    catalog = str(data.parent / "catalog.yaml")
    command = [sys.executable, "-P", "-m", "offers", "learn", "--catalog", catalog, "--data-dir", str(data), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(data: Path, *arguments: str) -> tuple[int, str, str]:
    """Run it to its end: exit status, output and what it said beside."""
    child = begin(data, *arguments)
    output, said = child.communicate(timeout=120)
    return child.returncode, output, said


def test_a_log_is_learned_once(data: Path) -> None:
    """The log becomes a model, told with its figures; a second time, and learned anew, it is the same."""
    results = [run(data, *more) for more in (["--once"], ["--once"], ["--once", "--anew"])]
    assert [0] * 3 == [status for status, _, _ in results]
    told = [output.splitlines() for _, output, _ in results]
    assert told[0] == told[1] == told[2]
    model = current_model(data / "learning")
    assert model is not None
    learned_up_to, counts, click, redemption, current = told[0]
    assert "decision 300" in learned_up_to
    assert "300 decisions may be learned from" in counts
    assert "click: 1,200 examples" in click
    assert "log loss" in redemption
    assert model.version in current
    assert {CATEGORY, "offer.campaign", "profile.age"} < set(propensities(model)["click"].features.attributes)


def test_order_values_are_learned_where_the_document_measures_them(data: Path) -> None:
    """With a scale in the document, order values are told as well; with another scale, they are learned again."""
    assert "order_value" not in run(data, "--once")[1]
    found = []
    for units in (50, 5):
        text = f"{CATALOG}order_value_scale: {{currency_code: EUR, units: {units}}}\n"
        (data.parent / "catalog.yaml").write_text(text)
        status, output, _ = run(data, "--once")
        assert 0 == status
        lines = {line.partition(": ")[0]: line for line in output.splitlines()}
        rewards = [lines[name].partition(": ")[2].partition(" of them")[0] for name in ("redemption", "order_value")]
        assert rewards[0] == rewards[1]
        model = current_model(data / "learning")
        assert model is not None
        found.append(model.arrays["order_value.seen"][0] / model.arrays["redemption.seen"][0])
    assert 0.3 < found[0] < 0.9
    assert 1 == pytest.approx(found[1])


def test_a_log_is_followed_until_it_is_told_to_stop(data: Path) -> None:
    """A process that follows the log publishes, ends at SIGTERM with status 0, and tells what it learned. Where models
    cannot be written, it says so and waits.
    """  # noqa: D205
    models = data / "learning" / "models"
    models.parent.mkdir()
    models.touch()  # no folder
    child = begin(data)
    assert child.stderr is not None
    waits = next(line for line in child.stderr if "learner_" in line)
    assert "learner_waits" in waits
    assert "the folder of models" in waits
    models.unlink()
    wait_for(lambda: child.poll() is not None or _learned(data) == 300, "all is learned and published", 120)
    child.send_signal(signal.SIGTERM)
    output, said = child.communicate(timeout=60)
    assert 0 == child.returncode
    assert "decision 300" in output
    model = current_model(data / "learning")
    assert model is not None
    assert model.version in output
    assert model.version in said
    assert "learner_goes_on" in said
    assert "Traceback" not in said


def _learned(data: Path) -> int:
    """How many decisions the current model has learned."""
    model = current_model(data / "learning")
    return int(model.meta["position"]["decision"]) if model else 0


def test_trees_are_grown(data: Path) -> None:
    """Trees are grown from the log, told with their figures, and in the published model; until then it has none."""
    pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'offers[gbdt]'")
    assert 0 == run(data, "--once")[0]
    before = current_model(data / "learning")
    assert before is not None
    assert [] == before.meta["trees"]
    status, output, _ = run(data, "--model", "gbdt")
    assert 0 == status
    assert "trees of click: 1,200 examples; of the last 240 offers that were judged, log loss" in output
    model = current_model(data / "learning")
    assert model is not None
    assert ["click", "redemption"] == model.meta["trees"]
    assert model.version in output


def test_trees_are_grown_beside_a_learner(data: Path) -> None:
    """While another process learns, trees are grown for it: it publishes them with its next model. To learn anew
    meanwhile is refused.
    """  # noqa: D205
    pytest.importorskip("lightgbm", reason="needs LightGBM: pip install 'offers[gbdt]'")
    child = begin(data)
    try:
        wait_for(lambda: current_model(data / "learning"), "the learner publishes", 120)
        status, _, said = run(data, "--model", "gbdt", "--anew")
        assert (1, True) == (status, "stop it first" in said)
        status, output, _ = run(data, "--model", "gbdt")
        assert (0, "the learner at work publishes with its next model what was grown") == (
            status,
            output.splitlines()[-1],
        )
        wait_for(lambda: (found := current_model(data / "learning")) and found.meta["trees"], "with trees", 30)
    finally:
        child.send_signal(signal.SIGTERM)
        assert 0 == child.wait(60)
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            stream.close()


def test_without_the_library_it_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LightGBM, the command says how to install it before anything is learned."""
    (data.parent / "lightgbm.py").write_text("raise ImportError")
    command = [sys.executable, "-P", "-m", "offers", "learn", "--data-dir", str(data), "--model", "gbdt"]
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{data.parent}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert 2 == done.returncode
    assert "pip install 'offers[gbdt]'" in done.stderr
    assert not (data / "learning").exists()


def test_nothing_is_made_of_nothing(data: Path, tmp_path: Path) -> None:
    """A folder without a log, and a catalogue with faults, are told, and no folder of models is made."""
    (tmp_path / "none").mkdir()
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    status, _, said = run(tmp_path / "none", "--once")
    assert 1 == status
    assert f"no state.db in {tmp_path / 'none'}" in said
    assert [] == list((tmp_path / "none").iterdir())
    (data.parent / "catalog.yaml").write_text("offers: [{offer_id: o1, price: 2}]")
    status, _, said = run(data, "--once")
    assert 1 == status
    assert "price" in said
    assert not (data / "learning").exists()


def test_an_empty_log_is_no_model(data: Path) -> None:
    """An empty log is told as nothing to learn."""
    stores = open_stores(read_settings(data_dir=data.parent / "empty"))
    stores.close()
    status, output, _ = run(data.parent / "empty", "--once")
    assert 0 == status
    assert "no model yet: nothing to learn" in output
