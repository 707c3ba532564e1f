"""The catalogues of a server: compiled when their documents change, and held in memory in their last good state."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from offers.catalogue.published import prune, stamp
from offers.errors import OffersError
from offers.files import new_memory
from offers.server.process.served import ServedSnapshot
from offers.server.process.stamps import Stamped, Stamps
from offers.settings import Settings
from offers.telemetry.metrics import Metrics

REFUSED, FAILED = 1, 2
"""Exit statuses of a compilation: the document has problems, or something else failed."""
RETRY_S, LONGEST_RETRY_S = 10.0, 600.0
"""Seconds until a compilation that failed for another reason than the document is retried: twice as many each time."""
NEVER = float("inf")
LEAST_COMPILERS = 2
"""Compilations at once on a machine of one core, so that one that hangs does not keep the others waiting."""

StartCompiler = Callable[[Path, int | None], "subprocess.Popen[bytes]"]
"""Starts the compilation of a document into the memory of a descriptor, in a process group of its own."""
log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class _Compilation:
    """A compilation under way."""

    process: "subprocess.Popen[bytes]"
    memory: int | None
    began: float
    output: bytes = b""
    is_late: bool = False
    """Whether it was killed because it took too long."""


@dataclass(slots=True)
class _Source:
    """A catalogue document and the state of its compilation."""

    path: Path
    seen: object = None
    published: Path | None = None
    """The last good snapshot."""
    memory: int | None = None
    """Sealed memory with a copy of it."""
    files: str = ""
    """Stamp of its files before they were verified."""
    is_refused: bool = False
    """Whether a worker could not use it: the next one takes its place even if it is the same."""
    catalog_id: str = ""
    waits: bool = False
    """Whether it is to be compiled once others are done."""
    compiling: _Compilation | None = None
    compiling_stamp: object = None
    problem: str = ""
    """Reason of the last refusal."""
    failures: int = 0
    """Failures in a row that were not the document's fault."""
    retry_at: float = NEVER
    """Time of the next retry after one."""

    @property
    def name(self) -> str:
        """The catalogue's id, or the path of a document that was never compiled."""
        return self.catalog_id or str(self.path)


class Catalogues:
    """Compiles the documents of a server, and holds the last good snapshot of each.

    Workers use a sealed copy in memory. Files that change under it are compiled again from the document.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Iterable[Path],
        start: StartCompiler,
        metrics: Metrics,
        most_compilers: int = LEAST_COMPILERS,
    ) -> None:
        self._settings, self._start, self._metrics = settings, start, metrics
        self._most_compilers = most_compilers
        self._stamps = Stamps()
        self._sources = [_Source(path) for path in sources]
        self.changes = 0
        """Number that grows whenever other snapshots are to be served; 0 until every document has one."""

    @property
    def served(self) -> Sequence[ServedSnapshot]:
        """The snapshots to serve: the last good one of each document."""
        return [ServedSnapshot(one.published, one.memory) for one in self._sources if one.published]

    @property
    def is_compiling(self) -> bool:
        """Whether a compilation is under way, or waits for another."""
        return any(source.compiling or source.waits for source in self._sources)

    def begin(self) -> None:
        """Begin to compile all documents."""
        for source in self._sources:
            self._plan(source, stamp(source.path))
        self._start_planned()

    def require_all(self) -> None:
        """Raise OffersError unless every document has a snapshot."""
        refused = [f"cannot serve {one.path}: {one.problem}" for one in self._sources if not one.published]
        if refused:
            raise OffersError("\n".join(refused))

    def look(self) -> None:
        """Begin to look for changes; `collect` has what has changed compiled."""
        self._stamps.take([(source.path, source.published) for source in self._sources])

    def _compare(self, stamps: Iterable[Stamped]) -> None:
        """Compile what has changed, a document or the files of its snapshot, or is to be tried again."""
        for source, found in zip(self._sources, stamps, strict=True):
            now = found.document
            # A change counts once two checks in a row see it: editors and copies take a moment to write.
            settled, source.seen = now == source.seen, now
            if not settled or source.compiling or source.waits:
                continue
            if source.published and source.published == found.snapshot and found.files != source.files:
                log.warning("snapshot_changed_on_disk", path=str(source.published), serving="the copy in memory")
                self._plan(source, now, found.files)
            elif now != source.compiling_stamp or time.monotonic() >= source.retry_at:
                self._plan(source, now)

    def renew(self) -> None:
        """Make all snapshots anew, because a worker could not use one: each is verified, and compiled if need be."""
        for source in self._sources:
            source.is_refused = True
            if not source.compiling and not source.waits and source.retry_at == NEVER:
                self._plan(source, source.seen)

    def prune(self) -> None:
        """Remove outdated snapshots; the served ones are marked as in use."""
        prune(self._settings.data_dir, [one.published for one in self._sources if one.published])

    def collect(self) -> None:
        """Take the results of looks and of finished compilations, and end those that take too long."""
        if stamps := self._stamps.taken():
            self._compare(stamps)
        for source in self._sources:
            if (compiling := source.compiling) is None:
                continue
            assert compiling.process.stdout is not None  # noqa: S101 - for the type checker
            has_ended = compiling.process.poll() is not None
            if has_ended:
                _kill_group(compiling.process)  # its children have the pipe too, which is read to its end
            compiling.output += compiling.process.stdout.read() or b""
            if has_ended:
                compiling.process.stdout.close()
                source.compiling = None
                self._take(source, compiling)
            elif not compiling.is_late and time.monotonic() - compiling.began > self._settings.compile_timeout_s:
                compiling.is_late = True
                _kill_group(compiling.process)
        self._start_planned()

    def end(self) -> None:
        """End all compilations."""
        for source in self._sources:
            if source.compiling is not None:
                _kill_group(source.compiling.process)
                source.compiling.process.wait()

    def _plan(self, source: _Source, now: object, files: str | None = None) -> None:
        """Have a document compiled, as soon as few enough others are; `files` are those of its snapshot, if changed."""
        source.compiling_stamp, source.retry_at, source.seen = now, NEVER, now
        if files is not None:
            source.files = files  # so that one change is one attempt
        source.waits = True

    def _start_planned(self) -> None:
        """Start compilations, as many as may be under way."""
        free = self._most_compilers - sum(source.compiling is not None for source in self._sources)
        for source in [one for one in self._sources if one.waits][: max(0, free)]:
            source.waits = False
            self._compile(source)

    def _compile(self, source: _Source) -> None:
        log.info("catalogue_compiling", source=str(source.path))
        memory = new_memory()
        try:
            process = self._start(source.path, memory)
        except OSError as error:  # a limit on processes, files or memory
            self._refuse(source, FAILED, {"problems": [f"the compiler cannot be started: {error}"]}, memory)
            return
        assert process.stdout is not None  # noqa: S101 - for the type checker
        os.set_blocking(process.stdout.fileno(), False)
        source.compiling = _Compilation(process, memory, time.monotonic())

    def _take(self, source: _Source, ended: _Compilation) -> None:
        """Take the result of a compilation."""
        status = ended.process.returncode
        try:
            result = orjson.loads(ended.output)
        except orjson.JSONDecodeError:  # killed, or broken
            result, status = {"problems": [self._end_of(ended)]}, FAILED
        known = {other.catalog_id for other in self._sources if other is not source}
        if status == 0 and result["catalog_id"] in known:
            result = {"problems": [f"{source.path}: catalog_id '{result['catalog_id']}' is another document's too"]}
            status = REFUSED
        if status == 0:
            self._publish(source, result, ended.memory)
        else:
            self._refuse(source, status, result, ended.memory)

    def _refuse(self, source: _Source, status: int, result: dict[str, Any], memory: int | None) -> None:
        """Keep the last good snapshot, and say why."""
        if memory is not None:
            os.close(memory)
        source.problem = "; ".join(result["problems"])
        wait_s = None
        if status != REFUSED:
            wait_s = min(RETRY_S * 2**source.failures, LONGEST_RETRY_S)
            source.failures, source.retry_at = source.failures + 1, time.monotonic() + wait_s
        self._metrics.reload(source.name, succeeded=False)
        log.error(
            "catalogue_refused",
            source=str(source.path),
            problems=result["problems"],
            problem_count=result.get("problem_count", 1),
            refused=self._metrics.refused(source.name),
            still_serving=source.published and str(source.published),
            retry_s=wait_s,
        )

    def _end_of(self, ended: _Compilation) -> str:
        """Say how a compiler ended that told nothing itself."""
        status = ended.process.returncode
        if ended.is_late:
            limit = f"{self._settings.compile_timeout_s:g} s"
            return f"compiling took more than {limit} and was ended: raise compile_timeout_s if the document is good"
        if status < 0:
            return f"the compiler was ended by {signal.Signals(-status).name}: see whether there is enough memory"
        return f"the compiler ended with status {status}: the lines above say why"

    def _publish(self, source: _Source, result: dict[str, object], memory: int | None) -> None:
        """Serve a snapshot."""
        source.catalog_id, source.failures, source.problem = str(result["catalog_id"]), 0, ""
        path, source.files = Path(str(result["path"])), str(result.pop("files"))
        self._metrics.reload(source.catalog_id, succeeded=True)
        self._stamps = Stamps()  # a look under way may have seen the files as they were before
        log.info("catalogue_published", **{**result, "source": str(source.path)})
        outdated = memory
        if path != source.published or source.is_refused:
            outdated, source.published, source.memory, source.is_refused = source.memory, path, memory, False
            self.changes += all(one.published for one in self._sources)
        if outdated is not None:
            os.close(outdated)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS has the latter for groups that have ended
        os.killpg(process.pid, signal.SIGKILL)
