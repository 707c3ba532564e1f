"""Answers while a store cannot be reached: they hold for a second, and say what they had to do without."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from offers.errors import StoreUnavailableError
from offers.state.ledger import Demand, Redemption
from offers.testing import Served, serving
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, ConsentGrants, Context, User
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from tests.server.running import wait_for
from tests.state.contract.backends import RedisProcess, redis

NOW = 1_795_345_200
SOMEBODY = User(user_id="ada", consent=ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING]))
COMMON = {"title": "An offer", "benefit": {"percent_off": 5}, "target": {"everywhere": True}}
CATALOGUE: dict[str, Any] = {
    "catalog_id": "apart",
    "time_zone": "Europe/Paris",
    "placements": [{"placement_id": "plain"}, {"placement_id": "counted"}, {"placement_id": "paid"}],
    "campaigns": [{"campaign_id": "few", "budget": {"units": 1}}],
    "offers": [
        {**COMMON, "offer_id": "open", "placement_ids": ["plain"]},
        {
            **COMMON,
            "offer_id": "capped",
            "placement_ids": ["counted"],
            "frequency_caps": [{"max_count": 1, "rolling": "60s"}],
        },
        {**COMMON, "offer_id": "budgeted", "placement_ids": ["paid"], "campaign_id": "few"},
    ],
}


def ask(served: Served, placement: str, user: User | None = None) -> GetOffersResponse:
    """Request the offers of a placement."""
    request = GetOffersRequest(context=Context(user=user), placement=placement)
    answer: GetOffersResponse = OfferServiceStub(served.channel).GetOffers(request, timeout=20)
    return answer


def told(served: Served, placement: str, user: User | None = None) -> tuple[list[str], int]:
    """Return what an answer had to do without, and the seconds for which it holds."""
    answer = ask(served, placement, user)
    return [one.dependency for one in answer.degraded], answer.refresh_after.seconds - NOW


def document(folder: Path) -> Path:
    """Write the catalogue, and return its path."""
    path = folder / "apart.yaml"
    path.write_text(yaml.safe_dump(CATALOGUE), "utf-8")
    return path


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the catalogue with a Redis that is not there."""
    folder = tmp_path_factory.mktemp("apart")
    with serving(document(folder), clock=lambda: NOW, data_dir=folder, state_url="redis://127.0.0.1:1/0") as served:
        yield served


@pytest.mark.parametrize(
    ("placement", "user", "without", "seconds"),
    [
        ("plain", None, [], 86_400),
        ("plain", SOMEBODY, [], 86_400),
        ("counted", None, [], 86_400),
        ("counted", SOMEBODY, ["state"], 1),
        ("paid", None, ["budgets"], 1),
        ("paid", SOMEBODY, ["state", "budgets"], 1),
        ("", None, ["budgets"], 1),
    ],
)
def test_everybody_whom_it_concerns_is_told(
    apart: Served, placement: str, user: User | None, without: list[str], seconds: int
) -> None:
    """Whom a missing store concerns is told so, and asks again soon; all others are not."""
    assert (without, seconds) == told(apart, placement, user)


def test_budgets_that_are_lost_are_those_last_read(tmp_path: Path) -> None:
    """While the ledger is gone, budgets stay as they were last read; afterwards they are read anew."""
    with redis(tmp_path) as mortal:
        check_budgets(mortal, tmp_path)


def check_budgets(mortal: RedisProcess, folder: Path) -> None:
    """Take the store of budgets away and bring it back."""
    with serving(document(folder), clock=lambda: NOW, data_dir=folder, state_url=mortal.url) as served:
        assert ([], 86_400) == told(served, "paid")
        demand = Demand("apart/campaign:few", 0, 1, 0, 1, -1, -1, -1)
        assert served.stores.ledger.confirm(Redemption("r", demands=[demand]), NOW).done
        wait_for(lambda: not ask(served, "paid").offers, "the budget is seen to be used up")
        mortal.kill()
        wait_for(lambda: told(served, "paid") == (["budgets"], 1), "the loss is told")
        assert not ask(served, "paid").offers
        mortal.start()
        wait_for(lambda: told(served, "paid") == ([], 86_400), "the budgets are read again")
        assert ask(served, "paid").offers  # this Redis keeps nothing


def test_an_engine_knows_its_budgets_before_it_serves(tmp_path: Path) -> None:
    """The first answer of a catalogue that is published anew does not show what is used up."""
    with serving(document(tmp_path), clock=lambda: NOW, data_dir=tmp_path) as served:
        served.worker.upkeep.stop()
        demand = Demand("apart/campaign:few", 0, 1, 0, 1, -1, -1, -1)
        assert served.stores.ledger.confirm(Redemption("r", demands=[demand]), NOW).done
        served.worker.serve(served.worker.live.engines())
        assert not ask(served, "paid").offers


def test_upkeep_raises_what_it_could_not_read(apart: Served) -> None:
    """The chore of budgets fails where the ledger cannot be reached, so that it is logged."""
    with pytest.raises(StoreUnavailableError):
        apart.worker.upkeep.follow_budgets()
