"""A peer that finds places by GEOSEARCH of Redis within the longest reach; numpy screens and ranks them."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import numpy as np

from benchmarks.peers import servers
from benchmarks.peers.questions import BOX_MARGIN, Offering, Question
from benchmarks.peers.ranking import Asked, MissingError, Ranked, Ranking

_KEY = "places"
_LOADED = 1_000
"""Places per GEOADD."""


@contextmanager
def redis_geosearch(offering: Offering) -> Iterator[Asked]:
    """Prepare Redis. Raises MissingError."""
    try:
        import redis
    except ImportError as error:
        raise MissingError(".venv/bin/pip install 'redis[hiredis]'") from error
    ranking = Ranking(offering)
    # Redis measures on a sphere, up to 0.6 % off; what is too far is left to numpy.
    radius = float(offering.reach_m.max()) * BOX_MARGIN
    with ExitStack() as stack:
        server = stack.enter_context(servers.redis())
        client: Any = redis.Redis(servers.HOST, server.port, password=server.password)
        stack.enter_context(closing(client))
        _wait_for(client, redis.ConnectionError)
        _load(client, offering)
        arguments = ("BYRADIUS", radius, "m")

        def ask(question: Question) -> Ranked:
            near = client.execute_command(
                "GEOSEARCH", _KEY, "FROMLONLAT", question.longitude, question.latitude, *arguments
            )
            return ranking.best(np.array(list(map(int, near)), np.int64), question)

        yield Asked(ask, f"Redis {client.info('server')['redis_version']}")


def _wait_for(client: Any, refused: type[Exception]) -> None:  # noqa: ANN401 - redis need not be installed
    deadline = time.monotonic() + servers.START_S
    while True:
        try:
            client.ping()
        except refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _load(client: Any, offering: Offering) -> None:  # noqa: ANN401
    rows = np.column_stack([offering.longitude, offering.latitude]).tolist()
    for start in range(0, len(rows), _LOADED):
        values = [
            value
            for place, (longitude, latitude) in enumerate(rows[start : start + _LOADED], start)
            for value in (longitude, latitude, place)
        ]
        client.execute_command("GEOADD", _KEY, *values)
