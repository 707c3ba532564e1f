"""The comparison with peers asks all of them the same, and refuses an answer that is not the decision's."""

from io import StringIO
from pathlib import Path

import pytest
from geopy.distance import geodesic
from rich.console import Console

from benchmarks import synthetic
from benchmarks.peers import answers, questions, servers
from benchmarks.peers.__main__ import KERNEL, run
from benchmarks.peers.ranking import MissingError
from offers.catalogue.publish import publish
from tests.needs import lacking

OURS = [(1, -0.5), (2, -0.7), (3, -0.9)]


def test_whoever_is_installed_answers_as_the_decision_does(tmp_path: Path) -> None:
    """Every peer is either missing, and then there is a way to install it, or gives the decision's own answers."""
    document = tmp_path / "catalogue.binpb"
    synthetic.write_catalogue(document, 2_000)

    result = run(2_000, publish(document, tmp_path).path, 40, Console(file=StringIO()))

    asked = set(result["answers_differing_within_edge"])
    assert "SQLite R*Tree + numpy" in asked
    for peer in ("shapely", "Redis", "PostGIS"):
        assert any(name.startswith(peer) for name in asked) != bool(result["missing"].get(peer))
    assert 10 == result["offers_per_answer"]
    assert 1 == result["p50_ratio"][KERNEL]
    if result["missing"]:
        lacking(", ".join(f"{peer}: {install}" for peer, install in result["missing"].items()))


@pytest.mark.parametrize(
    ("theirs", "same"),
    [
        (OURS, True),
        ([(1, -0.5), (2, -0.7 + 1e-9), (3, -0.9)], True),
        ([(1, -0.5), (3, -0.7), (2, -0.9)], False),
        ([(1, -0.5), (2, -0.7)], False),
        ([(1, -0.5), (2, -0.7), (3, -0.8)], False),
        ([(1, -0.5), (4, -0.7), (3, -0.9)], False),
    ],
)
def test_answers_are_the_same_if_offers_and_scores_are(theirs: list[tuple[int, float]], same: bool) -> None:  # noqa: FBT001
    """Another offer, another order, another length or another score is another answer."""
    assert same == answers.same(OURS, theirs)


def test_offers_of_equal_score_may_come_in_any_order() -> None:
    """Ties may be broken in another way, also between the last offer and the first that is cut off."""
    tied = [(1, -0.5), (2, -0.7), (3, -0.7), (4, -0.9)]

    assert answers.same(tied, [(1, -0.5), (3, -0.7), (2, -0.7), (4, -0.9)])
    assert answers.same(tied, [(1, -0.5), (2, -0.7), (3, -0.7), (5, -0.9)])


@pytest.mark.parametrize(("short_m", "same"), [(0.5, True), (-0.5, True), (3.0, False)])
def test_only_offers_at_the_end_of_a_reach_may_be_left_out(short_m: float, same: bool) -> None:  # noqa: FBT001
    """Whether an offer is within reach may differ within a metre of the end of it, and nowhere else."""
    offering = questions.offering(1_000)
    (question,) = questions.questions(offering, 1_000, 1)
    point = (offering.latitude[0], offering.longitude[0])
    there = geodesic(meters=offering.reach_m[0] - short_m).destination(point, bearing=90)
    query = question.query._replace(latitude=there.latitude, longitude=there.longitude)
    at_edge = questions.Question(question.request, query, question.admits, question.terms, 1.0)
    number = int(offering.number[0])

    assert same == answers.same_but_for_edges(offering, at_edge, [(number, -0.1), *OURS], OURS)


def test_a_missing_server_comes_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its program, a server says what to type."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError, match="apt-get install redis-server"), servers.redis():
        pass
