"""The supervisor process: compiles changed catalogues, restarts workers and learner, and drains on SIGTERM."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import orjson
import structlog

from offers.catalogue.published import prune, stamp
from offers.errors import OffersError
from offers.server.process import readiness
from offers.server.process.port import reserved_port
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
REFUSED, FAILED = 1, 2
"""Exit statuses of a compilation: the document has problems, or something else failed."""
RETRY_S = 10.0
"""Seconds until a compilation that failed for another reason than the document is retried."""
PRUNE_S = 3600.0
"""Seconds between removals of outdated snapshots; the served ones are then marked as in use."""

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


@dataclass(slots=True)
class _Source:
    """A catalogue document and the state of its compilation."""

    path: Path
    seen: object = None
    published: str = ""
    catalog_id: str = ""
    compiling: subprocess.Popen[bytes] | None = None
    compiling_stamp: object = None
    problem: str = ""
    """Reason of the last refusal."""
    retry_at: float = float("inf")
    """Time of the next retry after a failure that was not the document's fault."""


class Supervisor:
    """Runs the workers of one server until it is told to stop.

    `worker_command(core, port, served)`, `publish_command(source)` and `learner_command(served)` return the command
    lines of the child processes. These are separate programs, so that neither the memory nor the threads of this
    process are copied into them. Each reads the settings, which may hold passwords, from its stdin.
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
        self._sources = [_Source(path) for path in sources]
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
        self._metrics = Metrics()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises OffersError if it cannot begin."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        with contextlib.ExitStack() as stack:
            port = stack.enter_context(reserved_port(self._settings))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offers-")))
            served = folder / "served.json"
            if self._settings.metrics_port:
                stack.callback(self._serve_metrics())
            stack.callback(self._end_children)
            stack.callback(self._end_compilers)
            workers = [slot for slot in self._slots if slot.core is not None]
            if not self._publish_first(lambda: self._keep_children(workers, port, served)):
                return
            self._write(served)
            log.info("server_starting", host=self._settings.host, port=port, workers=len(workers))
            looked, pruned, is_ready = time.monotonic(), float("-inf"), False
            while not self._stops_within(TICK_S):
                self._keep_children(self._slots, port, served)
                if not is_ready and all(slot.beat <= time.monotonic() for slot in workers):
                    is_ready = True
                    readiness.tell(readiness.READY)
                    log.info("server_ready", port=port)
                if time.monotonic() - pruned >= PRUNE_S:
                    pruned = time.monotonic()
                    prune(self._settings.data_dir, [Path(source.published) for source in self._sources])
                if time.monotonic() - looked >= self._settings.reload_interval_s:
                    looked = time.monotonic()
                    self._look_for_changes()
                if self._collect() or not served.exists():
                    self._write(served)
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

    # Catalogues.

    def _publish_first(self, keep_children: Callable[[], None]) -> bool:
        """Compile all documents, while the workers load their modules and wait for the snapshots.

        Returns False if told to stop meanwhile; raises OffersError if a document is refused.
        """
        for source in self._sources:
            self._compile(source, stamp(source.path))
        while any(source.compiling for source in self._sources):
            keep_children()
            if self._stops_within(TICK_S):
                return False
            self._collect()
        refused = [f"cannot serve {one.path}: {one.problem}" for one in self._sources if not one.published]
        if refused:
            raise OffersError("\n".join(refused))
        return True

    def _look_for_changes(self) -> None:
        for source in self._sources:
            now = stamp(source.path)
            # A change counts once two checks in a row see it: editors and copies take a moment to write.
            settled, source.seen = now == source.seen, now
            due = now != source.compiling_stamp or time.monotonic() >= source.retry_at
            if settled and not source.compiling and due:
                self._compile(source, now)

    def _compile(self, source: _Source, now: object) -> None:
        source.compiling_stamp, source.retry_at = now, float("inf")
        source.seen = now
        log.info("catalogue_compiling", source=str(source.path))
        source.compiling = self._start(self._publish_command(source.path), stdout=subprocess.PIPE)

    def _start(self, command: Sequence[str], stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start a child process and hand it the settings; neither its command line nor its environment shows them."""
        process = subprocess.Popen(command, env=environment_without_settings(), stdin=subprocess.PIPE, stdout=stdout)  # noqa: S603
        assert process.stdin is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it has ended: its status says why
            pipe.write(self._settings.model_dump_json().encode())
        process.stdin = None
        return process

    def _collect(self) -> bool:
        """Take the results of finished compilations. Returns whether other snapshots are to be served."""
        changed = False
        for source in self._sources:
            if source.compiling is None or source.compiling.poll() is None:
                continue
            output, _ = source.compiling.communicate()
            status, source.compiling = source.compiling.returncode, None
            changed |= self._take(source, status, output)
        return changed

    def _take(self, source: _Source, status: int, output: bytes) -> bool:
        try:
            result = orjson.loads(output)
        except orjson.JSONDecodeError:  # killed, or broken
            result = {"problems": [f"the compiler ended with status {status}"]}
            status = status or FAILED
        known = {other.catalog_id for other in self._sources if other is not source}
        if status == 0 and result["catalog_id"] in known:
            result = {"problems": [f"{source.path}: catalog_id '{result['catalog_id']}' is another document's too"]}
            status = REFUSED
        if status != 0:
            source.problem = "; ".join(result["problems"])
            if status != REFUSED:
                source.retry_at = time.monotonic() + RETRY_S
            self._metrics.reload(source.catalog_id or str(source.path), succeeded=False)
            log.error(
                "catalogue_refused",
                source=str(source.path),
                problems=result["problems"],
                problem_count=result.get("problem_count", 1),
                refused=self._metrics.refused(source.catalog_id or str(source.path)),
                still_serving=source.published or None,
            )
            return False
        source.catalog_id = result["catalog_id"]
        self._metrics.reload(source.catalog_id, succeeded=True)
        log.info("catalogue_published", **{**result, "source": str(source.path)})
        before, source.published = source.published, result["path"]
        return source.published != before

    def _write(self, served: Path) -> None:
        """Write the file that tells the workers which snapshots to serve."""
        served.parent.mkdir(exist_ok=True)  # cleaners of temporary folders may have been there
        draft = served.with_suffix(".draft")
        draft.write_bytes(orjson.dumps({"snapshots": [source.published for source in self._sources]}))
        draft.replace(served)

    def _end_compilers(self) -> None:
        for source in self._sources:
            if source.compiling is not None:
                source.compiling.kill()
                source.compiling.communicate()

    # Workers and the learner.

    def _keep_children(self, slots: Iterable[_Slot], port: int, served: Path) -> None:
        now = time.monotonic()
        for slot in slots:
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
                slot.process = None
                self._mend_snapshots()
            if slot.process is None and now >= slot.not_before:
                command = (
                    self._learner_command(served)
                    if slot.core is None
                    else self._worker_command(slot.core, port, served)
                )
                slot.process = self._start(command, stdout=None if slot.core is None else subprocess.PIPE)
                slot.started, slot.beat = now, now + START_S
                if slot.process.stdout is not None:
                    os.set_blocking(slot.process.stdout.fileno(), False)

    def _mend_snapshots(self) -> None:
        """Compile missing snapshots again: without them no worker can start."""
        for source in self._sources:
            if source.published and not source.compiling and not Path(source.published, "manifest.json").is_file():
                self._compile(source, source.seen)

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
