"""Compiled synthetic catalogues, cached under build/bench-cache, and the times to compile and open them."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from benchmarks import persons, synthetic
from benchmarks.load import ROOT
from offers.catalogue import snapshot
from offers.catalogue.publish import publish

CACHE = ROOT / "build" / "bench-cache"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled catalogue."""

    path: Path
    """The snapshot's directory."""
    size: int
    """Bytes on disk."""
    seconds: float | None
    """Wall time of `publish`, from the document to the snapshot; None: an earlier run compiled it."""


def compiled(offers: int, *, fresh: bool) -> Compiled:
    """Return the synthetic catalogue of so many offers; with `fresh`, compile it in any case."""
    return _compiled(str(offers), lambda document: synthetic.write_catalogue(document, offers), fresh=fresh)


def compiled_dense(offers: int, cities: int) -> Compiled:
    """Return the synthetic catalogue of so many offers in a given number of cities."""
    write = partial(synthetic.write_catalogue, offers=offers, cities=cities)
    return _compiled(f"{offers}in{cities}", write, fresh=False)


def compiled_areas(offers: int) -> Compiled:
    """Return the synthetic catalogue of so many offers in areas of their own."""
    return _compiled(f"areas{offers}", lambda document: synthetic.write_areas(document, offers), fresh=False)


def compiled_for_some(offers: int, *, learned: bool = False) -> Compiled:
    """Return the synthetic catalogue of so many offers with audiences; `learned`: ranked by strategies with models."""
    write = partial(persons.write_catalogue, offers=offers, learned=learned)
    return _compiled(f"{'learned' if learned else 'some'}{offers}", write, fresh=False)


def compiled_timed(offers: int) -> Compiled:
    """Return the synthetic catalogue of so many offers, a third of them for segments that time alone changes."""
    return _compiled(f"timed{offers}", partial(persons.write_timed, offers=offers), fresh=False)


def _compiled(name: str, write: Callable[[Path], None], *, fresh: bool) -> Compiled:
    folder = _folder(name)
    if fresh or not any(_snapshots(folder)):
        for outdated in CACHE.glob(f"{name}-*"):
            shutil.rmtree(outdated)
        folder.mkdir(parents=True)
        document = folder / "catalogue.binpb"
        write(document)
        seconds = _in_fresh_process("publish", str(document), str(folder))
        document.unlink()  # only its snapshot is needed from now on
    else:
        seconds = None
    path = _snapshots(folder)[0]
    return Compiled(path, sum(file.stat().st_size for file in path.iterdir()), seconds)


def is_cached(offers: int, *, timed: bool = False) -> bool:
    """Return whether an earlier run has compiled the catalogue of so many offers as it would be compiled now.

    `timed`: that of `compiled_timed`.
    """
    return any(_snapshots(_folder(f"timed{offers}" if timed else str(offers))))


def seconds_to_open(path: Path) -> float:
    """Return the wall time to open an engine over a snapshot in a fresh process, with its files in the page cache."""
    return min(_in_fresh_process("open", str(path)) for _ in range(2))


def _snapshots(folder: Path) -> list[Path]:
    return list(folder.glob("snapshots/[!.]*"))


def _folder(name: str) -> Path:
    """Return a folder named by the content of all sources that determine a compiled catalogue."""
    package = Path(snapshot.__file__).parent
    sources = [
        Path(synthetic.__file__),
        *sorted((package / "compile").glob("*.py")),
        package / "hours" / "schedules.py",
    ]
    digest = hashlib.sha256(f"{snapshot.FORMAT}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    return CACHE / f"{name}-{digest.hexdigest()[:16]}"


def _in_fresh_process(role: str, *arguments: str) -> float:
    command = [sys.executable, "-m", "benchmarks.catalogues", role, *arguments]
    result = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE)
    return float(orjson.loads(result.stdout))


def _main(role: str, *arguments: str) -> None:
    """Run as the fresh process: print the seconds of the one thing asked for."""
    import time

    from offers.decision.engine import Engine

    paths = [Path(argument) for argument in arguments]
    begin = time.perf_counter()
    if role == "publish":
        publish(paths[0], paths[1])
    else:
        Engine(snapshot.open_snapshot(paths[0]))
    sys.stdout.buffer.write(orjson.dumps(time.perf_counter() - begin))


if __name__ == "__main__":
    _main(*sys.argv[1:])
