"""Prometheus metrics of the supervisor: compilations of catalogues and restarts of child processes."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, start_http_server


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reloads = Counter(
            "offers_catalog_reloads",
            "Catalogue documents compiled, by result: published or refused (the last good snapshot is kept).",
            ["catalog", "result"],
            registry=self.registry,
        )
        self._restarts = Counter(
            "offers_worker_restarts", "Worker processes that died and were replaced.", registry=self.registry
        )
        self._learner_restarts = Counter(
            "offers_learner_restarts", "Learner processes that died and were replaced.", registry=self.registry
        )
        self._refused: dict[str, int] = {}

    def reload(self, catalog: str, *, succeeded: bool) -> None:
        """Count a compilation."""
        self._reloads.labels(catalog, "published" if succeeded else "refused").inc()
        if not succeeded:
            self._refused[catalog] = self._refused.get(catalog, 0) + 1

    def refused(self, catalog: str) -> int:
        """Return how often a catalogue's document was refused since the start."""
        return self._refused.get(catalog, 0)

    def restart(self, *, learner: bool) -> None:
        """Count the restart of a worker, or of the learner."""
        (self._learner_restarts if learner else self._restarts).inc()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serve the metrics over HTTP, and return a function that stops. Raises OSError if the port is taken."""
        server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            thread.join()

        return stop
