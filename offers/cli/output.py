"""Where the command line writes: what was asked for on stdout, everything else on stderr."""

import os
import sys
from typing import TextIO

import typer
from rich.console import Console

PIPE_COLUMNS = 160
"""Width of tables that go to no terminal, so that a file or a pager gets whole lines."""


def stdout() -> Console:
    """Give a console for what was asked for."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Give a console for progress, counts and faults."""
    return _console(sys.stderr)


def fail(message: str, *, status: int = 1) -> int:
    """Say on stderr why the command ends, and give its exit status back."""
    typer.echo(f"offers: {message}", err=True)
    return status


def _console(file: TextIO) -> Console:
    narrow = file.isatty() or "COLUMNS" in os.environ
    return Console(file=file, width=None if narrow else PIPE_COLUMNS, highlight=False)
