"""One worker process: a synchronous gRPC server on one core."""

import contextlib
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health_pb2

from offers.catalogue.rules.values import time_zones
from offers.catalogue.snapshot import Snapshot, open_snapshot
from offers.decision.engine import Engine
from offers.errors import SnapshotError, StoreUnavailableError
from offers.learning.learner import FOLDER
from offers.server.admission import Admission
from offers.server.events.intake import Intake
from offers.server.events.live_offers import LiveOffers
from offers.server.events.service import EventService
from offers.server.explain_service import ExplainService
from offers.server.fast.answer import compile_for_persons
from offers.server.fronts.choice import fronts_of
from offers.server.fronts.contract import Methods, Offered
from offers.server.live import Live
from offers.server.offer_service import OfferService
from offers.server.people import PersonReader
from offers.server.process.gate import AdmittedThreads
from offers.server.process.health import SERVICE as HEALTH_SERVICE
from offers.server.process.health import Health
from offers.server.process.heartbeat import Heartbeat, own_address
from offers.server.process.models import ModelFollower
from offers.server.process.readiness import stop_limit_s
from offers.server.process.reflection import reflection_handlers
from offers.server.process.served import ServedReader
from offers.server.process.threads import CallThreads
from offers.server.process.upkeep import Upkeep
from offers.server.profile_service import ProfileService
from offers.server.recorder import Recorder
from offers.server.triggers import Triggers
from offers.settings import Settings, address_of
from offers.state.opening import Stores, open_stores
from offers.state.outbox import open_outbox
from offers.state.person.consent import PURPOSES
from offers.v1 import event_service_pb2, offer_service_pb2, profile_service_pb2

SERVICE = offer_service_pb2.DESCRIPTOR.services_by_name["OfferService"].full_name
EVENT_SERVICE = event_service_pb2.DESCRIPTOR.services_by_name["EventService"].full_name
PROFILE_SERVICE = profile_service_pb2.DESCRIPTOR.services_by_name["ProfileService"].full_name
RETRY_S = 5.0
"""Seconds until a worker tries again to open a snapshot that it could not open."""
POLL_S = 0.25
"""Seconds between checks for another snapshot to serve; each also works out some milliseconds of hours ahead."""
REPORT_S = 10.0
"""Seconds between lines of the log about calls that were refused."""
FIRST_POLL_S = 0.02
"""Seconds between checks for the first snapshots."""
SWITCH_S = 0.0005
"""Seconds after which a thread that computes lets another one run, so that a large batch does not delay decisions."""
WARM_S = 2.0
"""Seconds of working out hours before an engine serves; the rest is done between its requests."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Worker:
    """A gRPC server over live engines. Its health is NOT_SERVING until it has engines."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        *,
        clock: Callable[[], float] = time.time,
        extra: Iterable[grpc.GenericRpcHandler] = (),
    ) -> None:
        self.live = Live()
        self._settings = settings
        self.admission = Admission()
        self.threads = threads = AdmittedThreads(settings.worker_threads, self.admission)
        self.apart = CallThreads(settings.worker_threads)
        """Threads of health and reflection, which answer however many calls wait."""
        self.health = Health(self.apart, ("", SERVICE, EVENT_SERVICE, PROFILE_SERVICE))
        self.recorder = Recorder(stores.events, stores.state, clock)
        default_consent = frozenset(PURPOSES[name] for name in settings.default_consent)
        self.intake = Intake(
            stores,
            LiveOffers(self.live),
            clock=clock,
            default_consent=default_consent,
            geohash_length=settings.geohash_length,
        )
        people = PersonReader(stores.state, default_consent)
        outbox = open_outbox(settings)
        self._triggers = Triggers(self.live, stores.state, outbox, people, stores.events, clock, default_consent)
        stores.state.watch(self._triggers.due)
        self.upkeep = Upkeep(self.live, stores, self.intake, self._triggers, settings, clock)
        self.upkeep.add(self.report_refusals, REPORT_S)
        offers = OfferService(self.live, clock, people, self.recorder, settings.geohash_length)
        explaining = ExplainService(self.live, clock, people, settings.geohash_length)
        events = EventService(self.intake)
        profiles = ProfileService(
            stores.state,
            stores.events,
            stores.ledger,
            clock=clock,
            default_consent=default_consent,
            retention_days=settings.retention_days,
            settle=self.recorder.flush,
        )
        services = (
            Methods(
                SERVICE,
                {
                    "GetOffers": offers.get_offers,
                    "BatchGetOffers": offers.batch_get_offers,
                    "ExplainOffers": explaining.explain_offers,
                },
            ),
            Methods(EVENT_SERVICE, {"ReportEvents": events.report_events}, {"StreamEvents": events.stream_events}),
            Methods(
                PROFILE_SERVICE,
                {
                    "GetProfile": profiles.get_profile,
                    "UpdateProfile": profiles.update_profile,
                    "DeleteProfile": profiles.delete_profile,
                    "ExportProfile": profiles.export_profile,
                    "LinkIdentities": profiles.link_identities,
                },
                parted={"StreamExportProfile": profiles.stream_export_profile},
            ),
        )
        reflected = dict(reflection_handlers(self.apart, [SERVICE, EVENT_SERVICE, PROFILE_SERVICE, HEALTH_SERVICE]))
        offered = Offered(services, {**reflected, HEALTH_SERVICE: self.health.handlers()}, tuple(extra))
        decide = (f"/{SERVICE}/GetOffers", offers.get_offers_each)
        self._own, self.front = fronts_of(settings, threads, self.apart, offered, decide)

    def listen(self, address: str) -> int:
        """Listen on an address too, before `start`; return its port. Raises OffersError if it cannot be bound.

        Its calls take the way of grpcio's whichever front the settings choose.
        """
        return self._own.listen(address)

    def start(self, port: int) -> int:
        """Listen on a port (0: any free one) and return it. Raises OffersError if it cannot be bound."""
        bound = self.front.listen(address_of(self._settings.host, port))
        self.front.start()
        self.upkeep.start()
        return bound

    def serve(self, engines: Iterable[Engine]) -> None:
        """Serve these engines, which must be warm, in place of those before."""
        given = list(engines)
        with contextlib.suppress(StoreUnavailableError):  # decisions say so, until the upkeep can read the budgets
            self.upkeep.follow_budgets(given)
        self.live.swap(given)
        self.health.set_all(health_pb2.HealthCheckResponse.SERVING)

    def report_refusals(self) -> None:
        """Log how many calls were refused since the last time, if any were."""
        counts = [one.take_counts() for one in (self.admission, *self.front.admissions)]
        if any(map(any, counts)):
            refused, expired = map(sum, zip(*counts, strict=True))
            log.warning("calls_refused", refused=refused, expired=expired)

    def drain(self) -> None:
        """Report NOT_SERVING, wait until callers have noticed, finish the calls in flight, and stop."""
        self.health.set_all(health_pb2.HealthCheckResponse.NOT_SERVING)
        time.sleep(self._settings.drain_s)
        self.health.end()
        self.threads.drain()
        self.apart.drain()
        self.front.stop(self._settings.grace_s)
        self._end()

    def stop(self) -> None:
        """Stop at once."""
        self.front.stop(None)
        self._end()

    def _end(self) -> None:
        self.upkeep.stop()
        self.recorder.close()
        self._triggers.close()


def warm_engine(path: Path) -> Engine:
    """Open a snapshot, and return its engine as `warm` does."""
    return warm(open_snapshot(path))


def warm(snapshot: Snapshot) -> Engine:
    """Return the engine of a snapshot after it ran or loaded every loop once, so that no request waits for that."""
    engine = Engine(snapshot)
    engine.roll(int(time.time()), WARM_S)
    OfferService(Live([engine]), time.time).get_offers(b"")
    compile_for_persons()
    time_zones()
    return engine


def run(settings: Settings, core: int, port: int, served: int, supervisor: int) -> None:
    """Run a worker on one core until SIGTERM: serve the snapshots that the socket `served` tells, and follow changes.

    It also ends once the process `supervisor` is no longer its parent. Raises SnapshotError if it cannot begin.
    """
    with contextlib.suppress(OSError):  # not all systems let a process choose
        os.sched_setaffinity(0, {core})
    sys.setswitchinterval(SWITCH_S)
    _allow_files()
    told: list[int] = []  # no event: it may be locked by what the signal interrupts
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    told_of = ServedReader(served)
    while not told_of.look():
        if told or os.getppid() != supervisor:
            return
        time.sleep(FIRST_POLL_S)
    stores = open_stores(settings, is_server=True)
    worker = Worker(settings, stores)
    follower, models = _Follower(worker, told_of), ModelFollower(worker.live, settings.data_dir / FOLDER)
    follower.look()
    models.look()
    own = worker.listen(address := own_address())
    worker.start(port)
    target = address if address.startswith("unix") else f"127.0.0.1:{own}"
    heartbeat = Heartbeat(target, lambda: worker.front.finished, worker.front.answers_within)
    heartbeat.start()
    log.info("worker_serving", core=core, port=port, front=worker.front.name)
    while not told and os.getppid() == supervisor:
        follower.look()
        models.look()
        follower.roll()
        time.sleep(POLL_S)
    # Whatever keeps the drain from ending, the process ends: a supervisor that was killed cannot see to that.
    signal.alarm(math.ceil(stop_limit_s(settings)))
    worker.drain()
    heartbeat.stop()
    stores.close()
    log.info("worker_stopped", core=core)


def _allow_files() -> None:
    """Raise the limit on open files as far as the system lets this process: each connection is one.

    The usual limit, 1,024, is there for programs that call select().
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # not all systems let a process have what they call the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Follower:
    """Opens the snapshots that the supervisor tells, and serves them."""

    def __init__(self, worker: Worker, served: ServedReader) -> None:
        self._worker = worker
        self._served = served
        self._is_new = True
        self._not_before = 0.0
        self._engines: dict[Path, Engine] = {}

    def look(self) -> None:
        """Serve other snapshots if there are. Raises SnapshotError if none was ever served."""
        self._is_new |= self._served.look()
        if not self._is_new or time.monotonic() < self._not_before:
            return
        try:
            engines = {one.path: self._engines.get(one.path) or warm(one.open()) for one in self._served.snapshots}
        except SnapshotError as error:
            log.error("snapshot_refused", error=str(error), serving=[str(path) for path in self._engines])  # noqa: TRY400
            if not self._engines:
                raise
            self._not_before = time.monotonic() + RETRY_S
            return
        self._is_new = False
        if engines != self._engines:
            self._engines = engines
            self._worker.serve(engines.values())
            log.info("snapshots_served", versions=[engine.snapshot.version for engine in engines.values()])

    def roll(self) -> None:
        """Let every engine work out some hours ahead."""
        now = int(time.time())
        for engine in self._engines.values():
            engine.roll(now)
