"""The command line: thin commands over the package. Each command imports the heavy modules that it needs itself."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from offers.cli import (
    backup,
    catalogues,
    compile_loops,
    demo,
    evaluate,
    events,
    experiments,
    learn,
    profile,
    segments,
    serve,
    simulate,
    stores,
)
from offers.cli.hiding import hide_passwords
from offers.cli.output import fail
from offers.cli.query.command import query as ask
from offers.errors import OffersError, SettingsError

EPILOG = """
[bold]Examples[/bold]

Serve the demo catalogue:
  [cyan]offers serve[/cyan]

Ask it for the offers at a place, with the arithmetic of each rank:
  [cyan]offers query --lat 48.8674 --lng 2.3636 --full[/cyan]

Check a catalogue of your own, then serve it:
  [cyan]offers validate catalog.yaml[/cyan]
  [cyan]offers serve --catalog catalog.yaml[/cyan]
"""

app = typer.Typer(
    name="offers",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=EPILOG.strip().replace("\n", "\n\n").replace("\n\n\n\n", "\n\n"),
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"offers {version('offers')}")
        raise typer.Exit


@app.callback()
def offers(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Contextual offers over gRPC: where, when and who in; ranked offers and their reasons out."""


app.command(rich_help_panel="Server")(serve.serve)
app.command("query", rich_help_panel="Server")(ask)
app.command(rich_help_panel="Server")(learn.learn)
app.command(rich_help_panel="Server")(backup.backup)
app.command("compile-loops", rich_help_panel="Server")(compile_loops.compile_loops)
app.command(rich_help_panel="Catalogue")(catalogues.validate)
app.command("import", rich_help_panel="Catalogue")(catalogues.import_)
app.command("compile", rich_help_panel="Catalogue")(catalogues.compile_)
app.command(rich_help_panel="Learning")(evaluate.evaluate)
app.command(rich_help_panel="Learning")(simulate.simulate)
app.add_typer(demo.app, rich_help_panel="Server")
app.add_typer(segments.app, rich_help_panel="Catalogue")
app.add_typer(events.app, rich_help_panel="Server")
app.add_typer(profile.app, rich_help_panel="Server")
app.add_typer(stores.app, rich_help_panel="Server")
app.add_typer(experiments.app, rich_help_panel="Server")


def main() -> None:
    """Run the command line. Exit status 1: the command failed; 2: wrong usage; 3: no server answers."""
    hide_passwords()
    try:
        app()
    except SettingsError as error:
        sys.exit(fail(str(error), status=2))
    except (OffersError, OSError) as error:  # the latter: no room, no right
        sys.exit(fail(str(error)))
