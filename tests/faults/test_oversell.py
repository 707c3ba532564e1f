"""Many honest clients on one budget: it is used up exactly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.clients import used_units, write_catalog
from tests.faults.persistent import Clients
from tests.server.running import started
from tests.state.contract import backends

CLIENTS, UNITS = 64, 200


@pytest.fixture(params=backends.STATE)
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a store of budgets of each kind."""
    if request.param == "sqlite":
        yield ""
        return
    folder = tmp_path / "redis"
    folder.mkdir()
    with backends.redis(folder) as process:
        yield process.url


def test_a_budget_is_used_up_exactly(tmp_path: Path, state_url: str) -> None:
    """Sixty-four clients of two workers reserve and confirm until they are refused: no unit too many, none left."""
    settings: dict[str, Any] = {"state_url": state_url, "store_timeout_ms": 5000}
    with started(tmp_path, workers=2, catalogs=(write_catalog(tmp_path, UNITS),), **settings) as server:
        clients = Clients(lambda: server.target)
        with clients.running(redeemers=CLIENTS):
            clients.wait_until_exhausted(CLIENTS)
        assert UNITS == len(clients.confirmed) == len(set(clients.confirmed))
        assert UNITS == used_units(data_dir=tmp_path / "data", **settings)
