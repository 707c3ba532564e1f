"""Output of the command line: results on stdout, everything else on stderr."""

import os
import sys
from typing import TextIO

import typer
from rich.console import Console

PIPE_COLUMNS = 160
"""Width of tables in files and pipes, so that lines are not folded."""


def stdout() -> Console:
    """Return a console for results."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Return a console for progress, counts and errors."""
    return _console(sys.stderr)


def fail(message: str, *, status: int = 1) -> int:
    """Print on stderr why the command ends, and return its exit status."""
    typer.echo(f"offers: {message}", err=True)
    return status


def _console(file: TextIO) -> Console:
    narrow = file.isatty() or "COLUMNS" in os.environ
    return Console(file=file, width=None if narrow else PIPE_COLUMNS, highlight=False)
