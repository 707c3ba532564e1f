"""The composition root: the only place that names concrete classes and puts them together."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from offers.catalogue.publish import publish
from offers.demo import catalogue as demo_catalogue
from offers.errors import CatalogError, OffersError
from offers.settings import Settings
from offers.telemetry import logs

PROBLEMS_LOGGED = 20
"""Problems of a refused document that are logged; `offers validate` shows all."""


def serve(settings: Settings) -> int:
    """Run the server in the foreground until SIGTERM or SIGINT. Returns the exit status."""
    from offers.server.process.supervisor import Supervisor

    logs.configure(settings.log_level)
    frozen, own = settings.model_dump_json(), str(os.getpid())

    def worker_command(core: int, port: int, served: Path) -> Sequence[str]:
        return [sys.executable, "-P", "-m", "offers.app", "worker", frozen, str(core), str(port), str(served), own]

    def publish_command(source: Path) -> Sequence[str]:
        return [sys.executable, "-P", "-m", "offers.app", "publish", frozen, str(source)]

    def learner_command(served: Path) -> Sequence[str]:
        return [sys.executable, "-P", "-m", "offers.app", "learner", frozen, str(served), own]

    sources = settings.catalogs or (demo_catalogue(),)
    try:
        Supervisor(settings, sources, worker_command, publish_command, learner_command).run()
    except (OffersError, OSError) as error:
        print(f"offers: {error}", file=sys.stderr)  # noqa: T201 - the last word to whoever started it
        return 1
    return 0


def _worker(settings: Settings, core: str, port: str, served: str, supervisor: str) -> int:
    """A worker process of the supervisor."""
    from offers.server.process import worker

    worker.run(settings, int(core), int(port), Path(served), int(supervisor))
    return 0


def _learner(settings: Settings, served: str, supervisor: str) -> int:
    """The learner process of the supervisor."""
    from offers.server.process import learner

    learner.run(settings, Path(served), int(supervisor))
    return 0


def _publish(settings: Settings, source: str) -> int:
    """A compilation for the supervisor, in a process of its own: prints what came of it as JSON."""
    try:
        published = publish(Path(source), settings.data_dir)
    except CatalogError as error:
        problems = [str(problem) for problem in error.problems[:PROBLEMS_LOGGED]]
        result = {"problems": problems, "problem_count": len(error.problems)}
        status = 1
    except OSError as error:  # no room, no right
        result = {"problems": [f"cannot write to {settings.data_dir}: {error}"], "problem_count": 1}
        status = 2
    else:
        from offers.server.process.worker import warm_engine

        warm_engine(published.path)  # compiles the loops into the cache once, before several workers need them
        result = {**published._asdict(), "path": str(published.path)}
        status = 0
    sys.stdout.buffer.write(orjson.dumps(result))
    return status


def main(arguments: Sequence[str]) -> int:
    """Be one of the supervisor's child processes."""
    role, frozen, *rest = arguments
    settings = Settings.model_validate_json(frozen)
    logs.configure(settings.log_level)
    roles: dict[str, Callable[..., int]] = {"worker": _worker, "learner": _learner, "publish": _publish}
    return roles[role](settings, *rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
