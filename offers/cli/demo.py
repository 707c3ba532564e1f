"""`offers demo`: shows the service at work, without a server or a catalogue of one's own."""

import typer

app = typer.Typer(name="demo", no_args_is_help=True, help="Show the service at work.")


@app.callback()
def demo() -> None:
    """Show the service at work."""


@app.command()
def story() -> None:
    """Tell the story of one person, by a real server in this process.

    A visitor near lunch time, a basket left behind, a sign-in, an offer
    that is seen often enough, one that is put away, one that is redeemed,
    and an erasure. Its catalogue is offers/demo/story.yaml.
    """
    from offers.cli.story import tell

    tell(typer.echo)
