"""Prometheus metrics of the supervisor: what happened to catalogues and child processes."""

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
        """How often a catalogue's document was refused since the start."""
        return self._refused.get(catalog, 0)

    def restart(self, *, learner: bool) -> None:
        """Count a worker, or a learner, that died."""
        (self._learner_restarts if learner else self._restarts).inc()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Offer the metrics over HTTP; returns what ends that. Raises OSError if the port is taken."""
        server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            thread.join()

        return stop
