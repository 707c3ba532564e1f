"""The log of a real server that explores is enough to estimate what other strategies would have earned."""

import random
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from offers.learning.learner import Learner, current_model
from offers.learning.model import Model
from offers.learning.values import CatalogueFacts
from offers.settings import read_settings
from offers.state.opening import open_stores
from offers.testing import serving
from offers.v1.context_pb2 import ConsentGrants, ConsentPurpose, Context, User
from offers.v1.event_pb2 import Click, Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.whatif.evaluation import StrategyReport, report
from offers.whatif.logged_outcomes import DecisionFilter
from offers.whatif.replay import replaying
from tests.server.running import wait_for
from tests.whatif import worlds

NOW, PEOPLE = 1_795_000_000, 1_500
AGREED = ConsentGrants(purposes=ConsentPurpose.values()[1:])
METHOD = "{method: METHOD_EPSILON_GREEDY, epsilon: 1, max_loss: 0.99}"
EXPLORING = f"max_offers: 2, ranking_strategy_id: learned, exploration: {METHOD}"
CATALOG = worlds.CATALOG.replace("placement_id: home, max_offers: 2", f"placement_id: home, {EXPLORING}")
TRUTH = {"usual": worlds.RAIN * (0.1 + 0.3) + (1 - worlds.RAIN) * (0.3 + 0.1), "by-weather": worlds.WET_TRUTH}


def learned(folder: Path) -> Model:
    """A model that has learned the world."""

    def values(_catalog: str, offer: str) -> Mapping[str, object]:
        return {"category": "food" if offer == "lunch" else offer}

    data = worlds.made(folder, *worlds.happened(1_000))
    with closing(open_stores(read_settings(data_dir=data))) as stores:
        learner = Learner(stores.events, data / "learning", CatalogueFacts((), values, {"corner": "Europe/Paris"}))
        learner.catch_up(lambda: False, lambda _: None, lambda: 0.0)
        learner.close()
    model = current_model(data / "learning")
    assert model is not None
    return model


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StrategyReport]:
    """Return the reports on two strategies, from the log of a server that explored."""
    folder = tmp_path_factory.mktemp("explored")
    model = learned(folder)
    source = folder / "exploring.yaml"
    source.write_text(CATALOG)
    choose, clock = random.Random(7), [float(NOW)]
    with serving(source, clock=lambda: clock[0], data_dir=folder / "data-served") as server:
        server.worker.live.use_model(model)
        ask, tell = OfferServiceStub(server.channel), EventServiceStub(server.channel)
        for number in range(PEOPLE):
            clock[0] += 60
            weather = "rain" if choose.random() < worlds.RAIN else "sun"
            user = User(user_id=f"person-{number}", consent=AGREED)
            context = Context(user=user)
            context.attributes["weather"] = weather
            answer = ask.GetOffers(GetOffersRequest(context=context, placement="home"), timeout=20)
            clicks = [
                Event(event_id=one.proposition_id, proposition_id=one.proposition_id, click=Click(), user=user)
                for one in answer.offers
                if choose.random() < worlds.CHANCE[weather][one.offer_id]
            ]
            if clicks:
                tell.ReportEvents(ReportEventsRequest(events=clicks), timeout=20)
        log = server.stores.events
        wait_for(lambda: PEOPLE == len(log.decisions_after(0, 2 * PEOPLE)), "the decisions are logged")
        found = {}
        for strategy in TRUTH:
            with replaying(source, strategy) as replay:
                found[strategy] = report(log, replay, DecisionFilter("corner", "home"), strategy, "click")
    return found


@pytest.mark.parametrize("strategy", list(TRUTH))
def test_what_was_explored_tells_what_a_strategy_earns(reports: dict[str, StrategyReport], strategy: str) -> None:
    """By the probabilities that the server logs, the true value is in the intervals of IPW, SNIPS and DR."""
    found = reports[strategy]

    assert (PEOPLE, 2 * PEOPLE, {}) == (found.decisions, found.shown, found.left_out)
    assert found.explored > PEOPLE
    assert found.unsupported < 0.05
    for one in (found.evaluation.ipw, found.evaluation.snips, found.evaluation.dr):
        assert one is not None
        assert one.low < TRUTH[strategy] < one.high
        assert one.high - one.low < 0.15


def test_the_better_strategy_is_told_from_the_other(reports: dict[str, StrategyReport]) -> None:
    """The intervals are close enough to see which of two strategies earns more."""
    by_weather, usual = reports["by-weather"].evaluation.dr, reports["usual"].evaluation.dr

    assert by_weather is not None
    assert usual is not None
    assert by_weather.low > usual.value
