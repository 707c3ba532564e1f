"""The composition root: the only place that names concrete classes and puts them together."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import structlog

from offers import memory
from offers.demo import catalogue as demo_catalogue
from offers.errors import CatalogError, OffersError, SnapshotError
from offers.settings import Settings, environment_without_settings
from offers.telemetry import logs

LEARNER_NICENESS = 10
"""Learning yields to workers: it uses the CPU time that they leave."""
PROBLEMS_LOGGED = 20
"""Problems of a refused document that are logged; `offers validate` shows all."""
PARENT_S = 1.0
"""Seconds between checks of a compiler whether its supervisor is there."""
CHILD = (sys.executable, "-P", "-m", "offers.app")


def serve(settings: Settings) -> int:
    """Run the server in the foreground until SIGTERM or SIGINT. Returns the exit status."""
    from offers.server.process.supervisor import Supervisor
    from offers.state.checking import check_stores

    logs.configure(settings.log_level)
    own = str(os.getpid())

    def worker_command(core: int, port: int, served: int) -> Sequence[str]:
        return [*CHILD, "worker", str(core), str(port), str(served), own]

    def publish_command(source: Path, memory: int | None) -> Sequence[str]:
        return [*CHILD, "publish", str(source), own, *([] if memory is None else [str(memory)])]

    def learner_command(served: int) -> Sequence[str]:
        return [*CHILD, "learner", str(served), own]

    sources = settings.catalogs or (demo_catalogue(),)
    try:
        check_stores(settings)
        Supervisor(settings, sources, worker_command, publish_command, learner_command).run()
    except (OffersError, OSError) as error:
        print(f"offers: {error}", file=sys.stderr)  # noqa: T201 - the last word to whoever started it
        return 1
    return 0


def compile_loops(into: Path | None, *, is_portable: bool) -> dict[str, str | int | float]:
    """Compile the loops in a process of their own; returns the fields of `loops.Prepared` and the CPU.

    Portable loops are for every CPU of the baseline, others for this CPU. Raises OffersError if no baseline is stated,
    or the loops cannot be compiled or written.
    """
    from offers.compiled.cache import baseline

    environment, cpu = environment_without_settings(), "this CPU"
    if into is not None:
        environment["NUMBA_CACHE_DIR"] = str(into.absolute())
    if is_portable:
        if (oldest := baseline()) is None:
            raise OffersError("no baseline is stated for this architecture: compile without --portable")
        cpu = oldest.name
        environment |= {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([*CHILD, "loops"], env=environment, input=b"{}", stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode != 0:
        raise OffersError("the loops could not be compiled: the lines above say why")
    result: dict[str, str | int | float] = orjson.loads(done.stdout)
    return {**result, "cpu": cpu}


def _worker(settings: Settings, core: str, port: str, served: str, supervisor: str) -> int:
    """Run a worker process of the supervisor."""
    from offers.server.process import worker
    from offers.server.process.supervisor import SNAPSHOT_REFUSED

    try:
        worker.run(settings, int(core), int(port), int(served), int(supervisor))
    except SnapshotError:  # logged already; the supervisor has it made anew
        return SNAPSHOT_REFUSED
    return 0


def _learner(settings: Settings, served: str, supervisor: str) -> int:
    """Run the learner process of the supervisor."""
    os.nice(LEARNER_NICENESS)  # before the imports, which would compete with those of the workers
    from offers.server.process import learner

    learner.run(settings, int(served), int(supervisor))
    return 0


def _publish(settings: Settings, source: str, supervisor: str, memory: str = "") -> int:
    """Compile a catalogue document for the supervisor, copy its snapshot into `memory`, and print the result as JSON.

    `memory` is the descriptor of empty memory that can be sealed, if the system has such.
    """
    from offers.catalogue.publish import Published, publish
    from offers.catalogue.published import stamp_of_files
    from offers.catalogue.snapshot import Snapshot, open_snapshot
    from offers.server.process.catalogues import FAILED, REFUSED
    from offers.server.process.loops import prepare_loops

    made: list[Published] = []
    files: list[str] = []

    def make() -> Snapshot:
        threading.Thread(target=_end_without, args=(int(supervisor),), daemon=True).start()
        made.append(publish(Path(source), settings.data_dir))
        files.append(stamp_of_files(made[0].path))  # before they are verified: later changes are noticed by it
        return open_snapshot(made[0].path, int(memory) if memory else None)

    try:
        prepared = prepare_loops(make)
    except CatalogError as error:
        problems = [str(problem) for problem in error.problems[:PROBLEMS_LOGGED]]
        result = {"problems": problems, "problem_count": len(error.problems)}
        status = REFUSED
    except SnapshotError as error:  # damaged since, or there is no memory
        result, status = {"problems": [str(error)], "problem_count": 1}, FAILED
    except OSError as error:  # no room, no right
        result = {"problems": [f"cannot write to {settings.data_dir}: {error}"], "problem_count": 1}
        status = FAILED
    else:
        structlog.get_logger().info("loops_ready", **prepared._asdict())
        result = {**made[0]._asdict(), "path": str(made[0].path), "files": files[0]}
        status = 0
    sys.stdout.buffer.write(orjson.dumps(result))
    return status


def _end_without(supervisor: int) -> None:
    """Kill this process and its children once it is no longer a child of the supervisor: a compilation may hang."""
    while os.getppid() == supervisor:
        time.sleep(PARENT_S)
    os.killpg(0, signal.SIGKILL)


def _loops(_settings: Settings) -> int:
    """Compile the loops, and print an account of it as JSON."""
    from offers.catalogue.publish import publish
    from offers.catalogue.snapshot import open_snapshot
    from offers.server.process.loops import prepare_loops

    with tempfile.TemporaryDirectory(prefix="offers-") as folder:
        prepared = prepare_loops(lambda: open_snapshot(publish(demo_catalogue(), Path(folder)).path))
    sys.stdout.buffer.write(orjson.dumps(prepared._asdict()))
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run a child process; its settings come over stdin, because command lines and environments are public."""
    role, *rest = arguments
    memory.limit_arenas()
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    logs.configure(settings.log_level)
    roles: dict[str, Callable[..., int]] = {
        "worker": _worker,
        "learner": _learner,
        "publish": _publish,
        "loops": _loops,
    }
    return roles[role](settings, *rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
