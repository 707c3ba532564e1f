"""The benchmark's catalogues are sound, and its figures are those that were measured."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from benchmarks import overload, synthetic
from benchmarks.__main__ import run
from benchmarks.measure import plan
from benchmarks.personal import by_store
from offers.catalogue.check import check
from offers.catalogue.publish import publish


def test_the_synthetic_catalogue_validates_and_is_the_same_each_time(tmp_path: Path) -> None:
    """A synthetic catalogue has no faults and as many offers as asked for; made again it has the same bytes."""
    first, second = tmp_path / "first.binpb", tmp_path / "second.binpb"
    synthetic.write_catalogue(first, 1_000)
    synthetic.write_catalogue(second, 1_000)
    assert check(first).offer_count == 1_000
    assert first.read_bytes() == second.read_bytes()


def test_requests_find_full_answers_at_places_of_their_own(tmp_path: Path) -> None:
    """Even the smallest catalogue fills an answer of ten offers, and every request has another place."""
    document = tmp_path / "catalogue.binpb"
    synthetic.write_catalogue(document, 1_000)
    drawn = plan(1_000, publish(document, tmp_path).path)
    assert len(set(drawn.requests)) == len(drawn.requests)
    assert drawn.eligible >= 10


def test_figures_leave_out_what_was_not_measured() -> None:
    """A run at one small size writes that size's figures and none that need a larger one."""
    result = run((1_000,), quick=True, console=Console(file=StringIO()))
    assert result["quick"] is True
    assert list(result["cpu_ratio"]) == list(result["p99_ratio"]) == ["1000"]
    assert result["cpu_ratio"]["1000"] > 0
    assert 0 < result["batch_cpu_ratio"] < result["cpu_ratio"]["1000"]
    assert result["bytes_per_offer"] > 0
    assert {"1000", "the demo's"} == result["decisions"].keys()
    native = result["native"]
    assert ["1000"] == list(native["cpu_ratio"]) == list(native["calls_per_second"])
    assert 0 < native["cpu_ratio"]["1000"] < result["cpu_ratio"]["1000"]
    assert {"grpcio no-op", "native no-op", "grpcio GetOffers", "native GetOffers"} <= native["calls"]["1000"].keys()
    assert not native["personal_cpu_ratio"]
    for figures in result["decisions"].values():
        assert 0 < figures["p50_us"] <= figures["p99_us"]
        assert 10 <= figures["eligible"]
        assert 0 < figures["holds_m"]
        assert 0 < figures["holds_s"] <= 86_400
    assert {"1000", "the demo's"} == result["holding"].keys()
    for held in result["holding"].values():
        assert 0 < held["shortest_s"] <= held["persons_s"] <= held["nobody_s"] <= 86_400
        assert held["persons_s"] >= 60
    assert {"open_seconds", "compile_seconds", "private_growth_ratio"}.isdisjoint(result)


def test_decisions_about_persons_are_measured_by_store() -> None:
    """Every store that is installed has a row of figures, each of what was measured beside its own no-op."""
    measured = by_store(1_000, 1)
    assert "SQLite" in measured
    for one in measured.values():
        assert 0 < one.noop_us < one.decision_us
        assert 0 < one.event_us
        assert 0 < one.events_per_second


def test_overload_is_measured_by_method() -> None:
    """Each load of each method has its goodput; none may be left on a busy machine, but not of all loads."""
    measured = overload.run(0.2, Console(file=StringIO()))
    assert {"GetOffers", "BatchGetOffers of 100"} == measured.keys()
    for loads in measured.values():
        assert {"1x, 0.1 s", "2x, 0.1 s", "10x, 0.1 s", "0.5x, 0.1 s", "2x, 10 s"} == loads.keys()
        assert any(loads.values())
