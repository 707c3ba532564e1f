"""A server learns by itself: its learner publishes models, its workers use them, and neither falls with the other."""

import os
import signal
from pathlib import Path

import grpc

from offers.learning.learner import FOLDER
from offers.v1.context_pb2 import Context, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.running import LONG_S, Server, command_of, started, wait_for

DOCUMENT = """
catalog_id: learning
default_ranking_strategy_id: learned
ranking_strategies: [{ranking_strategy_id: learned, weights: {propensity: 1}}]
offers:
  - offer_id: one
    title: One
    benefit: {percent_off: 10}
    target: {everywhere: true}
    frequency_caps: [{kind: EVENT_KIND_DISMISSAL, max_count: 5, rolling: 86400s}]
"""
CONSENT = ("contextual", "profiling", "learning")


def document(folder: Path) -> Path:
    """A catalogue of one offer, whose decisions concern persons."""
    path = folder / "catalog.yaml"
    path.write_text(DOCUMENT)
    return path


def click(server: Server, person: str) -> None:
    """Somebody sees an offer and clicks it."""
    with grpc.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = GetOffersRequest(context=Context(user=User(user_id=person)))
        decision = OfferServiceStub(channel).GetOffers(request, timeout=10)
        (offer,) = decision.offers
        event = Event(
            event_id=f"click-{decision.decision_id}", user=request.context.user, proposition_id=offer.proposition_id
        )
        event.click.SetInParent()
        response = EventServiceStub(channel).ReportEvents(ReportEventsRequest(events=[event]), timeout=10)
        assert [(False, 0)] == [(result.duplicate, result.status.code) for result in response.results]


def used(server: Server, workers: int) -> set[str]:
    """The models that so many workers have taken up, each of them."""
    versions = [line["version"] for line in server.lines("model_used")]
    return {version for version in versions if versions.count(version) >= workers}


def test_workers_take_up_what_the_learner_publishes(tmp_path: Path) -> None:
    """Clicks become a model that all workers use; a learner that cannot write models waits, and goes on when it can;
    one that is killed is replaced, and the next one goes on from there; at the end, all processes end.
    """  # noqa: D205
    with started(tmp_path, catalogs=(document(tmp_path),), learner=True, default_consent=CONSENT) as server:
        (learner,) = server.learners()
        click(server, "ada")
        first = wait_for(lambda: used(server, 2), "both workers use a model", LONG_S)
        niceness = os.getpriority(os.PRIO_PROCESS, server.process.pid)
        assert min(niceness + 10, 19) == os.getpriority(os.PRIO_PROCESS, learner)
        models = tmp_path / "data" / FOLDER / "models"
        models.rename(models.with_name("aside"))
        models.touch()  # no folder
        click(server, "eve")
        wait_for(lambda: server.lines("learner_waits"), "the learner waits", LONG_S)
        models.unlink()
        models.with_name("aside").rename(models)
        wait_for(lambda: server.lines("learner_goes_on"), "the learner goes on", LONG_S)
        first |= wait_for(lambda: used(server, 2) - first, "both use the model that was held up", LONG_S)
        assert {"the folder of models"} == {line["waits_for"] for line in server.lines("learner_waits")}
        assert {learner} == server.learners()
        os.kill(learner, signal.SIGKILL)
        wait_for(lambda: server.learners() - {learner}, "another learner")
        (line,) = server.lines("learner_died")
        assert -signal.SIGKILL == line["status"]
        click(server, "ben")
        wait_for(lambda: used(server, 2) - first, "both use another model", LONG_S)
        children = server.workers() | server.learners()
        assert 3 == len(children)
        assert 0 == server.stop()
        assert [] == [pid for pid in children if command_of(pid)]
        assert 1 == len(server.lines("learner_stopped"))
        assert [] == server.lines("worker_died")
        assert "Traceback" not in server.text


def test_a_second_server_of_the_same_folder_waits_to_learn(tmp_path: Path) -> None:
    """Its learner waits quietly while another is at work, and its workers use that one's models; it takes over."""
    data, settings = tmp_path / "data", {"learner": True, "workers": 1, "default_consent": CONSENT}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    path = document(tmp_path)
    with started(tmp_path / "first", catalogs=(path,), data_dir=data, **settings) as first:
        wait_for(lambda: first.lines("learner_working"), "the first learns", LONG_S)
        with started(tmp_path / "second", catalogs=(path,), data_dir=data, **settings) as second:
            wait_for(lambda: second.lines("learner_waits"), "the second waits", LONG_S)
            click(second, "ada")
            versions = wait_for(lambda: used(second, 1), "the second's worker uses a model", LONG_S)
            wait_for(lambda: versions <= used(first, 1), "the first's worker uses it, too", LONG_S)
            assert 0 == first.stop()
            wait_for(lambda: second.lines("learner_working"), "the second learns", LONG_S)
            click(second, "ben")
            wait_for(lambda: used(second, 1) - versions, "it publishes", LONG_S)
            assert 1 == len(second.lines("learner_waits"))
            assert [] == second.lines("learner_died")


def test_learning_can_be_left_out(tmp_path: Path) -> None:
    """A server that is told not to has no learner."""
    with started(tmp_path, catalogs=(document(tmp_path),), learner=False, workers=1) as server:
        assert (set(), 1) == (server.learners(), len(server.workers()))
