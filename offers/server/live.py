"""The engines in service, one per catalogue; all are replaced together when a catalogue changes."""

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
    """The engine of each catalogue. Every request reads it; a change is one assignment."""

    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self._engines: dict[str, Engine] = {}
        self._model: Model | None = None
        self._lock = threading.Lock()
        self.known = KnownSurfaces()
        """The surfaces that these engines were asked for."""
        self.swap(engines)

    def swap(self, engines: Iterable[Engine]) -> None:
        """Replace the engines. Requests in flight finish with the engine they began with."""
        named = {engine.catalog_id: engine for engine in engines}
        with self._lock:
            for engine in named.values():
                _give(engine, self._model)
            if len(named) == 1:  # requests need not name it
                named[""] = next(iter(named.values()))
            self._engines = named
            self.known = KnownSurfaces()  # after the engines, so that it never holds surfaces of the ones before

    def use_model(self, model: Model | None) -> None:
        """Set the model of all current and later engines; None disables models."""
        with self._lock:
            self._model = model
            for engine in self.engines():
                _give(engine, model)

    def remember(self, known: KnownSurfaces, key: NDArray[np.uint8], query: Query, engine: Engine) -> None:
        """Remember the surface of the requests with a key; clear the memory first where it is full."""
        with self._lock:
            if self.known is known and not known.remember(key, query, engine):
                self.known = KnownSurfaces()
                self.known.remember(key, query, engine)

    def stand(self, known: KnownSurfaces, place: int, strategy: int, second: int) -> bool:
        """Remember a surface's offers shown everywhere in the order of another strategy; False if that failed."""
        with self._lock:
            if self.known is known and not known.stand(place, strategy, second):
                self.known = KnownSurfaces()
            return self.known is known

    def engines(self) -> list[Engine]:
        """Return every engine once."""
        return list(dict.fromkeys(self._engines.values()))

    def engine(self, catalog: str) -> Engine:
        """Return the engine of a catalogue; "" names the only one. Raises InvalidRequestError."""
        engine = self._engines.get(catalog)
        if engine is None:
            names = ", ".join(sorted(filter(None, self._engines))[:10]) or "none yet"
            reason = f"unknown catalogue '{catalog[:64]}': this server has {names}"
            if not catalog:
                reason = f"this server has several catalogues: name one of {names}"
            raise InvalidRequestError([FieldViolation("catalog", reason)])
        return engine


def _give(engine: Engine, model: Model | None) -> None:
    """Set the model of an engine; one that does not fit is logged, and the engine keeps its own."""
    try:
        engine.use(model)
    except ValueError as error:
        log.error("model_refused", catalog=engine.catalog_id, error=str(error))  # noqa: TRY400 - the message is complete
