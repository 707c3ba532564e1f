"""`offers stores`: the stores that a data folder has worked with."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="stores", no_args_is_help=True, help="Show and forget the stores that a data folder has worked with."
)


class Role(StrEnum):
    """Purpose of a store."""

    state = "state"
    events = "events"


DataDir = Annotated[Path | None, typer.Option(help="Data folder of the server. \\[default: as `offers serve`]")]


@app.command()
def show(*, data_dir: DataDir = None) -> None:
    """Show where the data folder has its state and its events.

    A server refuses other stores than these, and does not create new ones in
    their place.
    """
    from offers.settings import read_settings
    from offers.state.identity import read

    folder = read_settings(data_dir=data_dir).data_dir
    for role, known in (found := read(folder)).items():
        typer.echo(f"{role}  {known.place}  {known.identity}")
    if not found:
        typer.echo(f"{folder} has not worked with any store yet")


@app.command()
def forget(
    roles: Annotated[list[Role], typer.Argument(metavar="ROLE...", help="state, events, or both.")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Let the next start take the store that the settings name, even a new one.

    For a store that is lost or was exchanged on purpose. Nothing is deleted.
    The learner notices another log of events, and learns it from its
    beginning.
    """
    from offers.settings import read_settings
    from offers.state.identity import forget as forget_roles

    folder = read_settings(data_dir=data_dir).data_dir
    forgotten = forget_roles(folder, [role.value for role in roles])
    for place in dict.fromkeys(known.place for known in forgotten):
        typer.echo(f"forgotten: {place}")
    if not forgotten:
        typer.echo(f"{folder} has not worked with such a store")
