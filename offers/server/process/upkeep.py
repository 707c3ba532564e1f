"""Periodic work of a worker: budgets, expired reservations, event recovery, triggers and retention."""

import threading
import time
from collections.abc import Callable, Iterable

import structlog

from offers.decision.engine import Engine
from offers.errors import StoreUnavailableError
from offers.server.events.intake import GRACE_S, Intake
from offers.server.live import Live
from offers.server.triggers import Triggers
from offers.settings import Settings
from offers.state.opening import Stores
from offers.state.sweeping import sweep

BUDGETS_S = 0.25
"""Greatest age of the budgets that decisions read. Nothing is oversold: a reservation asks the ledger itself."""
RECOVER_S = 10.0
TRIGGER_S = 1.0
SWEEP_S = 3600.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Upkeep:
    """A thread that runs each chore at its interval. An unavailable store delays only the chores that need it."""

    def __init__(
        self,
        live: Live,
        stores: Stores,
        intake: Intake,
        triggers: Triggers,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._live, self._stores, self._intake, self._triggers = live, stores, intake, triggers
        self._settings, self._clock = settings, clock
        self._chores: list[tuple[Callable[[], None], float]] = [
            (self.follow_budgets, BUDGETS_S),
            (self.recover, RECOVER_S),
            (self.trigger, TRIGGER_S),
            (self.sweep, SWEEP_S),
        ]
        self._grace_s = 0  # the first time: all that an earlier worker left
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def add(self, chore: Callable[[], None], every_s: float) -> None:
        """Add a chore, before the thread starts."""
        self._chores.append((chore, every_s))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the chore in progress."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def follow_budgets(self, engines: Iterable[Engine] | None = None) -> None:
        """Release expired reservations, and tell the engines (None: those in service) what is left of the budgets.

        Where the ledger cannot be reached, the engines are told that, and StoreUnavailableError is raised.
        """
        concerned = [one for one in (self._live.engines() if engines is None else engines) if one.budgets.budgets]
        if not concerned:
            return
        now = int(self._clock())
        try:
            self._stores.ledger.expire(now)
            usage = list(self._stores.ledger.usage())
        except StoreUnavailableError:
            for engine in concerned:
                engine.budgets.lose()
            raise
        for engine in concerned:
            engine.budgets.update(usage, now)

    def recover(self) -> None:
        """Apply events that a worker accepted but did not apply before it died."""
        if count := self._intake.recover(self._grace_s):
            log.info("events_recovered", count=count)
        self._grace_s = GRACE_S

    def trigger(self) -> None:
        """Send the offers that triggers have due."""
        self._triggers.scan()

    def sweep(self) -> None:
        """Remove records older than the settings allow."""
        swept = sweep(self._stores, self._settings, int(self._clock()))
        if any(swept):
            log.info("swept", **swept._asdict())

    def _run(self) -> None:
        due = dict.fromkeys(range(len(self._chores)), 0.0)
        while not self._stopping.wait(BUDGETS_S):
            for number, (chore, every_s) in enumerate(self._chores):
                if time.monotonic() < due[number]:
                    continue
                due[number] = time.monotonic() + every_s
                try:
                    chore()
                except StoreUnavailableError as error:
                    log.warning("upkeep_put_off", chore=chore.__name__, error=str(error))
                except Exception as error:  # noqa: BLE001 - a fault in one chore must not end the others
                    # Without its message, which may contain personal data.
                    log.error("upkeep_failed", chore=chore.__name__, error=type(error).__qualname__)  # noqa: TRY400
