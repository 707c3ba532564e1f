"""`offers segments`: the segments of a catalogue that a person is in, and why they are not in others."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offers.cli.attributes import read_attributes
from offers.cli.catalogues import DocumentPath
from offers.cli.output import fail, stdout

if TYPE_CHECKING:
    from offers.decision.segments.evaluate import Facts
    from offers.decision.segments.membership import Membership, Term
    from offers.v1.context_pb2 import Context
    from offers.v1.profile_pb2 import Profile

app = typer.Typer(name="segments", no_args_is_help=True, help="Tell who is in which segment.")


@app.callback()
def segments() -> None:
    """Tell who is in which segment."""


@app.command("test")
def which(
    catalog: DocumentPath,
    *,
    user: Annotated[str, typer.Option(help="Id of a signed-in person.")] = "",
    anonymous: Annotated[str, typer.Option(help="Id of a visitor not signed in.")] = "",
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Attribute of the profile: text or JSON; may be repeated."),
    ] = None,
    context: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="A Context: session, location, channel, ...")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="A Profile: orders, life cycle, affinities, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each segment as a line of JSON.")] = False,
) -> None:
    """Tell which segments and intents of a catalogue a person would be in.

    For every other segment, the terms of its expression that are false are
    listed with the values they read. Among the intents, the first that
    holds counts.
    """
    import orjson
    from rich.table import Table
    from rich.text import Text

    from offers.catalogue.check import check
    from offers.catalogue.compile.behaviour import conditions
    from offers.decision.segments.membership import membership

    found = conditions(check(catalog))
    if not found:
        raise typer.Exit(fail(f"{catalog} has no segments"))
    facts = _facts(user, anonymous, attribute or (), context, profile)
    listed = Table("segment", "in it", "why not")
    for name, segment in found.items():
        one = membership(segment.expression, facts)
        if as_json:
            terms = [
                {**term._asdict(), "values": {value.name: value.text for value in term.values}} for term in one.terms
            ]
            typer.echo(orjson.dumps({"segment": name, "in": one.held, "terms": terms}))
        listed.add_row(Text(name), "yes" if one.held else "no", Text(_why_not(one)))
    if not as_json:
        stdout().print(listed)


def _facts(user: str, anonymous: str, attributes: Any, context: Path | None, profile: Path | None) -> "Facts":  # noqa: ANN401
    """Return the values that segments read, from the options of the command."""
    from offers.decision.segments.evaluate import Facts
    from offers.v1.context_pb2 import Context
    from offers.v1.profile_pb2 import Profile

    now, known = Context(), Profile()
    if context is not None:
        _read(context, now)
    if profile is not None:
        _read(profile, known)
    if user and anonymous:
        message = "a person is known by --user or by --anonymous: give one"
        raise typer.BadParameter(message)
    if user:
        now.user.user_id = user
    if anonymous:
        now.user.anonymous_id = anonymous
    known.attributes.update(read_attributes(attributes))
    if now.HasField("user") and not known.HasField("user"):
        known.user.CopyFrom(now.user)
    second = now.time.seconds if now.HasField("time") else int(time.time())
    return Facts(now.user, now.session, now, known, second)


def _read(file: Path, message: "Context | Profile") -> None:
    """Fill in a message from a JSON file."""
    from offers.model.json_messages import fill, read_json

    try:
        fill(message, read_json(file.read_bytes()), message.DESCRIPTOR.name)
    except (OSError, ValueError) as error:
        told = f"{file} cannot be read as a {message.DESCRIPTOR.name} in JSON: {error}"
        raise typer.BadParameter(told) from None


def _why_not(one: "Membership") -> str:
    """Word why a person is not in a segment; "": they are in it."""
    if one.held:
        return ""
    return "\n".join(_told(term) for term in one.terms if not term.held)


def _told(term: "Term") -> str:
    """Word a term that is not true, with the values it read."""
    seen = ", ".join(f"{value.name} is {value.text}" for value in term.values)
    text = " ".join(term.text.split())
    absent = any(value.text == "not there" for value in term.values)
    error = f" ({term.error})" if term.error and not absent else ""
    return f"{text}: {seen or 'it is never so'}{error}"
