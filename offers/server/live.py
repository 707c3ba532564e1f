"""The engines that answer now, one per catalogue; swapped whole when a catalogue changes."""

import threading
from collections.abc import Iterable

import numpy as np
import structlog
from numpy.typing import NDArray

from offers.decision.engine import Engine
from offers.errors import FieldViolation, InvalidRequestError
from offers.learning.model import Model
from offers.model.query import Query
from offers.server.fast.answer import KnownSurfaces

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Live:
    """Which engine answers for which catalogue. Read by every request, replaced in one assignment."""

    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self._engines: dict[str, Engine] = {}
        self._model: Model | None = None
        self._lock = threading.Lock()
        self.known = KnownSurfaces()
        """The surfaces these engines have been asked for."""
        self.swap(engines)

    def swap(self, engines: Iterable[Engine]) -> None:
        """Let these engines answer from now on. Requests under way end with the engine they began with."""
        named = {engine.catalog_id: engine for engine in engines}
        with self._lock:
            for engine in named.values():
                _give(engine, self._model)
            if len(named) == 1:  # may be asked without a name
                named[""] = next(iter(named.values()))
            self._engines = named
            self.known = KnownSurfaces()  # after the engines: what is remembered there is never of those before

    def use_model(self, model: Model | None) -> None:
        """Let all engines use a model, those of now and those of later; None: none."""
        with self._lock:
            self._model = model
            for engine in self.engines():
                _give(engine, model)

    def remember(self, known: KnownSurfaces, key: NDArray[np.uint8], query: Query, engine: Engine) -> None:
        """Keep what the requests with a key ask for, for the next of them."""
        with self._lock:
            if self.known is known and not known.remember(key, query, engine):
                self.known = KnownSurfaces()
                self.known.remember(key, query, engine)

    def stand(self, known: KnownSurfaces, place: int, strategy: int, second: int) -> bool:
        """Keep what is shown everywhere on a surface by another strategy than its own. False: not there, or no room."""
        with self._lock:
            if self.known is known and not known.stand(place, strategy, second):
                self.known = KnownSurfaces()
            return self.known is known

    def engines(self) -> list[Engine]:
        """All of them, each once."""
        return list(dict.fromkeys(self._engines.values()))

    def engine(self, catalog: str) -> Engine:
        """The engine of a catalogue; "" where there is only one. Raises InvalidRequestError."""
        engine = self._engines.get(catalog)
        if engine is None:
            names = ", ".join(sorted(filter(None, self._engines))[:10]) or "none yet"
            reason = f"unknown catalogue '{catalog[:64]}': this server has {names}"
            if not catalog:
                reason = f"this server has several catalogues: name one of {names}"
            raise InvalidRequestError([FieldViolation("catalog", reason)])
        return engine


def _give(engine: Engine, model: Model | None) -> None:
    """Let an engine use a model; one that does not fit is logged, and the engine keeps what it has."""
    try:
        engine.use(model)
    except ValueError as error:
        log.error("model_refused", catalog=engine.catalog_id, error=str(error))  # noqa: TRY400 - it says all
