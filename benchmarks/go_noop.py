"""The no-op behind grpc-go, as a limit from outside: built on demand, where Go is on the machine."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.load import ROOT

_SOURCE, _PROGRAM = ROOT / "benchmarks" / "noop_go", ROOT / "build" / "go-noop"


def built() -> Path | None:
    """Return the program; None where it has not been built."""
    return _PROGRAM if _PROGRAM.exists() and shutil.which("taskset") is not None else None


@cache
def program() -> Path | None:
    """Build the program, which takes a minute the first time; None where there is no Go, or it cannot be built."""
    if shutil.which("go") is None or shutil.which("taskset") is None:
        return None
    command = ["go", "build", "-o", str(_PROGRAM), "."]
    done = subprocess.run(
        command, cwd=_SOURCE, capture_output=True, env={**os.environ, "CGO_ENABLED": "0"}, check=False
    )
    return _PROGRAM if done.returncode == 0 else None


def command(program: Path, core: int, answer_bytes: int) -> Sequence[str]:
    """Return the command that serves on a core."""
    return ["taskset", "--cpu-list", str(core), str(program), str(answer_bytes)]
