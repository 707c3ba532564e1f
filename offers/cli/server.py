"""Calls of commands to a running server: its address, and the words and exit statuses of calls that fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from offers.cli.output import fail

if TYPE_CHECKING:
    from offers.client import OffersCallError, OffersClient

ASKED_WRONGLY, NO_SERVER = 2, 3
"""Exit statuses."""


class ServerOptions(NamedTuple):
    """The server to ask."""

    target: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the server.")] = "localhost:50051"
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 5.0


@contextmanager
def calling(server: ServerOptions) -> Iterator["OffersClient"]:
    """Yield a client of a server. A call that fails ends the command with a message and an exit status."""
    from offers.client import OffersCallError, OffersClient

    with OffersClient(server.target, timeout_s=server.timeout) as client:
        try:
            yield client
        except OffersCallError as error:
            raise typer.Exit(_refused(error, server.target)) from None


def _refused(error: "OffersCallError", target: str) -> int:
    """Print why there is no answer, and return the exit status."""
    code = error.code.name
    if code == "UNAVAILABLE":
        message = f"no server at {target}: start one with 'offers serve', or name another with --target"
        return fail(message, status=NO_SERVER)
    if code == "DEADLINE_EXCEEDED":
        return fail(f"no answer from {target} in time: allow it more with --timeout", status=NO_SERVER)
    if not error.violations:
        return fail(str(error))
    fail("the server refuses the request:")
    for violation in error.violations:
        typer.echo(f"  {violation.field}: {violation.reason}", err=True)
    return ASKED_WRONGLY
