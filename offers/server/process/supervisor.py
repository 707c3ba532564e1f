"""The supervisor process: has changed catalogues compiled, restarts workers and learner, and drains on SIGTERM."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from offers.errors import OffersError
from offers.server.process import readiness
from offers.server.process.catalogues import LEAST_COMPILERS, Catalogues
from offers.server.process.port import reserved_port
from offers.server.process.served import ServedSender
from offers.settings import Settings, address_of, environment_without_settings
from offers.telemetry.metrics import Metrics

TICK_S = 0.1
"""Seconds between checks of the child processes; a dead one is replaced within that."""
STEADY_S = 10.0
"""A child that lived for this many seconds is restarted at once; the back-off of one that dies sooner grows."""
LONGEST_WAIT_S = 10.0
HANG_S = 20.0
"""Seconds without a sign of life after which a worker is replaced."""
START_S = 600.0
"""Seconds that a worker has until its first sign of life, beside these."""
PAUSE_S = 5.0
"""Seconds between two checks after which this process itself stood still, and perhaps all of the machine."""
NOT_STARTED_S = 1.0
"""Seconds until a child is tried again that the system did not let start."""
SNAPSHOT_REFUSED = 3
"""Exit status of a worker that could not use a snapshot."""
PRUNE_S = 3600.0
"""Seconds between removals of outdated snapshots."""

Command = Callable[..., Sequence[str]]
log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class _Slot:
    """A worker's slot: a core and its process. The learner's slot has no core."""

    core: int | None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0
    quick_deaths: int = 0
    beat: float = float("inf")
    """Time of the last sign of life; before the first, a time ahead, so that a slow start is not taken for a hang."""
    sender: ServedSender | None = None
    told: int = 0
    """Number of the snapshots that its process was told."""


class Supervisor:
    """Runs the workers of one server until it is told to stop.

    `worker_command(core, port, served)`, `publish_command(source, memory)` and `learner_command(served)` return the
    command lines of the child processes. `served` is the descriptor of the socket of a ServedReader, `memory` that of
    memory to be sealed, if there is such. Children are separate programs, so that neither the memory nor the threads of
    this process are copied into them. Each reads the settings, which may hold passwords, from its stdin.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[Path],
        worker_command: Command,
        publish_command: Command,
        learner_command: Command,
    ) -> None:
        self._settings = settings
        self._worker_command = worker_command
        self._publish_command = publish_command
        self._learner_command = learner_command
        cores = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        )
        count = settings.workers or len(cores)
        self._slots = [_Slot(cores[number % len(cores)]) for number in range(count)]
        self._slots += [_Slot(None)] if settings.learner else []
        self._stopped_by = 0
        self._kept_at = float("inf")
        """When the children were last checked."""
        self._metrics = Metrics()
        most = max(LEAST_COMPILERS, len(cores))
        self._catalogues = Catalogues(settings, sources, self._start_compiler, self._metrics, most)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises OffersError if it cannot begin."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(reserved_port(self._settings))
            if self._settings.metrics_port:
                stack.callback(self._serve_metrics())
            stack.callback(self._end_children)
            stack.callback(self._catalogues.end)
            workers = [slot for slot in self._slots if slot.core is not None]
            if not self._publish_first(lambda: self._keep_children(workers, port)):
                return
            log.info("server_starting", host=self._settings.host, port=port, workers=len(workers))
            looked, pruned, is_ready = time.monotonic(), float("-inf"), False
            while not self._stops_within(TICK_S):
                self._keep_children(self._slots, port)
                if not is_ready and all(slot.beat <= time.monotonic() for slot in workers):
                    is_ready = True
                    log.info("server_ready", port=port)
                    readiness.tell(readiness.READY)  # last, so that whoever waits for one finds both
                if time.monotonic() - pruned >= PRUNE_S:
                    pruned = time.monotonic()
                    self._catalogues.prune()
                if time.monotonic() - looked >= self._settings.reload_interval_s:
                    looked = time.monotonic()
                    self._catalogues.look()
                self._catalogues.collect()
            readiness.tell(readiness.STOPPING)
            log.info("server_stopping", signal=signal.Signals(self._stopped_by).name)

    def _serve_metrics(self) -> Callable[[], None]:
        """Serve the metrics, and return a function that stops. Raises OffersError if the port is taken."""
        host, port = self._settings.host, self._settings.metrics_port
        try:
            return self._metrics.serve(host, port)
        except OSError as error:
            reason = f"({error.strerror}): stop what uses it, or name another --metrics-port"
            message = f"cannot serve metrics on {address_of(host, port)} {reason}"
            raise OffersError(message) from None

    def _told_to_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopped_by = number  # no more than that: the signal may interrupt code that holds a lock

    def _stops_within(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self._stopped_by != 0

    def _publish_first(self, keep_children: Callable[[], None]) -> bool:
        """Compile all documents, while the workers load their modules and wait for the snapshots.

        Returns False if told to stop meanwhile; raises OffersError if a document is refused.
        """
        self._catalogues.begin()
        while self._catalogues.is_compiling:
            keep_children()
            if self._stops_within(TICK_S):
                return False
            self._catalogues.collect()
        self._catalogues.require_all()
        return True

    def _start_compiler(self, source: Path, memory: int | None) -> subprocess.Popen[bytes]:
        command = self._publish_command(source, memory)
        return self._start(
            command, stdout=subprocess.PIPE, pass_fds=() if memory is None else (memory,), process_group=0
        )

    def _start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - of Popen
        """Start a child process and hand it the settings; neither its command line nor its environment shows them."""
        process = subprocess.Popen(command, env=environment_without_settings(), stdin=subprocess.PIPE, **options)  # noqa: S603
        assert process.stdin is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it has ended: its status says why
            pipe.write(self._settings.model_dump_json().encode())
        process.stdin = None
        return process

    # Workers and the learner.

    def _keep_children(self, slots: Iterable[_Slot], port: int) -> None:
        now = time.monotonic()
        stood_still = max(0.0, now - self._kept_at)
        self._kept_at = now
        for slot in slots:
            if stood_still >= PAUSE_S:  # the workers, too, if the machine or the container was paused
                slot.beat += stood_still
            if slot.process is not None and slot.core is not None:
                _replace_if_hung(slot, now)
            if slot.process is not None and slot.process.poll() is not None:
                lived = now - slot.started
                slot.quick_deaths = 0 if lived > STEADY_S else slot.quick_deaths + 1
                wait = 0.0 if slot.quick_deaths <= 1 else min(LONGEST_WAIT_S, 0.25 * 2**slot.quick_deaths)
                slot.not_before = now + wait
                self._metrics.restart(learner=slot.core is None)
                told = {"status": slot.process.returncode, "lived_s": round(lived, 1), "wait_s": wait}
                if slot.core is None:
                    log.error("learner_died", **told)
                else:
                    log.error("worker_died", core=slot.core, **told)
                if slot.process.returncode in {SNAPSHOT_REFUSED, -signal.SIGBUS}:
                    self._catalogues.renew()
                if slot.process.stdout is not None:
                    slot.process.stdout.close()
                slot.process = None
            if slot.process is None and now >= slot.not_before:
                self._try_to_start(slot, port)
            self._tell(slot)

    def _try_to_start(self, slot: _Slot, port: int) -> None:
        """Start the process of a slot. Raises OSError where the system does not let it start, before any served."""
        try:
            self._start_child(slot, port)
        except OSError as error:  # a limit on processes, files or memory
            if not self._catalogues.changes:
                raise
            slot.not_before = time.monotonic() + NOT_STARTED_S
            log.error("child_not_started", core=slot.core, error=str(error), wait_s=NOT_STARTED_S)  # noqa: TRY400

    def _start_child(self, slot: _Slot, port: int) -> None:
        """Start the process of a slot."""
        if slot.sender:
            slot.sender.close()
        sender = slot.sender = ServedSender()
        slot.told = 0
        self._tell(slot)  # so that a learner has it at once
        served = sender.childs.fileno()
        command = self._learner_command(served) if slot.core is None else self._worker_command(slot.core, port, served)
        slot.process = self._start(command, stdout=None if slot.core is None else subprocess.PIPE, pass_fds=(served,))
        sender.childs.close()
        slot.started = time.monotonic()
        slot.beat = slot.started + START_S
        if slot.process.stdout is not None:
            os.set_blocking(slot.process.stdout.fileno(), False)

    def _tell(self, slot: _Slot) -> None:
        """Tell a child which snapshots to serve, unless it was told."""
        if slot.sender and slot.told != self._catalogues.changes and slot.sender.send(self._catalogues.served):
            slot.told = self._catalogues.changes

    def _end_children(self) -> None:
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + readiness.stop_limit_s(self._settings)
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("child_killed", pid=process.pid)  # noqa: TRY400 - there is no fault to trace
                process.kill()
                process.wait()
        log.info("server_stopped")


def _replace_if_hung(slot: _Slot, now: float) -> None:
    """Read the signs of life of a slot's worker, and kill it when they have stopped."""
    assert slot.process is not None  # noqa: S101 - for the type checker
    assert slot.process.stdout is not None  # noqa: S101
    if slot.process.stdout.read():
        slot.beat = now
    elif now - slot.beat > HANG_S:
        log.error("worker_hangs", core=slot.core, pid=slot.process.pid, silent_s=round(now - slot.beat, 1))
        slot.process.kill()
        slot.process.wait()
