"""`offers compile-loops`: compile the loops before the first start, for images and packages."""

from pathlib import Path
from typing import Annotated

import typer


def compile_loops(
    *,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to compile into. \\[default: the user's cache]", file_okay=False),
    ] = None,
    portable: Annotated[
        bool, typer.Option("--portable", help="Compile for every CPU of the baseline (x86-64-v3), not for this one.")
    ] = False,
) -> None:
    """Compile what a server would compile at its first start.

    Without options the loops go where a server of this user finds them.
    Loops in another folder are used where NUMBA_CACHE_DIR names it.
    """
    from offers.app import compile_loops as run

    done = run(into, is_portable=portable)
    typer.echo(
        f"compiled {done['compiled']} loops for {done['cpu']} in {done['seconds']} s, found {done['read']}: "
        f"{done['folder']}"
    )
