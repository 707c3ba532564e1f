"""Stores of each kind, for tests that must hold for all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.settings import Settings
from offers.state.opening import Stores, open_stores
from tests.state.contract import backends
from tests.state.contract.backends import RedisProcess


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """Start a real Redis."""
    with backends.redis(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a real PostgreSQL."""
    with backends.postgres() as url:
        yield url


def _settings(request: pytest.FixtureRequest, folder: Path, state: str, events: str) -> Settings:
    state_url = events_url = ""
    if state == "redis":
        process: RedisProcess = request.getfixturevalue("redis_process")
        with process.client() as client:
            client.flushall()
        state_url = process.url
    if events == "postgres":
        events_url = request.getfixturevalue("postgres_url")
        backends.empty_postgres(events_url)
    # Patience for a machine with more to do than to answer.
    return Settings(data_dir=folder / "data", state_url=state_url, events_url=events_url, store_timeout_ms=5000)


@pytest.fixture(params=backends.STATE)
def state_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings for each backend of persons and budgets."""
    return _settings(request, tmp_path, request.param, "sqlite")


@pytest.fixture(params=backends.EVENTS)
def events_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings for each backend of events."""
    return _settings(request, tmp_path, "sqlite", request.param)


@pytest.fixture(params=[("sqlite", "sqlite"), ("redis", "postgres")], ids=["sqlite", "servers"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings for one machine and for several."""
    state, events = request.param
    return _settings(request, tmp_path, state, events)


def _opened(settings: Settings) -> Iterator[Stores]:
    opened = open_stores(settings)
    yield opened
    opened.close()


@pytest.fixture
def state_stores(state_settings: Settings) -> Iterator[Stores]:
    """Stores of persons and budgets of each kind."""
    yield from _opened(state_settings)


@pytest.fixture
def events_stores(events_settings: Settings) -> Iterator[Stores]:
    """Event logs of each kind."""
    yield from _opened(events_settings)


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    """All stores, for one machine and for several."""
    yield from _opened(settings)
