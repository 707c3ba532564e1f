"""`offers profile`: read, change, export, link and erase what a running server stores about a person."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from offers.cli.attributes import read_attributes
from offers.cli.consent import purposes_of
from offers.cli.options import grouped
from offers.cli.output import fail, stdout
from offers.cli.server import ServerOptions, calling

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from offers.v1.context_pb2 import User
    from offers.v1.profile_pb2 import Profile

app = typer.Typer(
    name="profile", no_args_is_help=True, help="Read, change, export, link and erase what is stored about a person."
)
Consent = Annotated[
    str | None,
    typer.Option(
        metavar="PURPOSES",
        help="Purposes agreed to, for this call only, such as profiling,learning; or none. \\[default: as the server "
        "has it]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the profile as JSON.")]


class PersonOptions(NamedTuple):
    """The person, by one of their ids."""

    user: Annotated[str, typer.Option(help="Id of a signed-in person.")] = ""
    anonymous: Annotated[str, typer.Option(help="Id of a visitor who is not signed in.")] = ""


class ChangeOptions(NamedTuple):
    """The changes of a profile."""

    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Attribute to set: text or JSON; may be repeated."),
    ] = None
    remove: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Attribute to remove; may be repeated.")] = (
        None
    )
    grant: Annotated[
        str, typer.Option(metavar="PURPOSES", help="Purposes agreed to from now on, such as profiling,learning.")
    ] = ""
    withdraw: Annotated[str, typer.Option(metavar="PURPOSES", help="Purposes refused from now on.")] = ""
    erase_log: Annotated[
        bool, typer.Option("--erase-log", help="Erase the log of a person who refuses profiling, too.")
    ] = False


class PatientOptions(NamedTuple):
    """The server to ask, which may take its time."""

    target: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the server.")] = "localhost:50051"
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 60.0


@app.callback()
def profile() -> None:
    """Read, change, export, link and erase what is stored about a person."""


@app.command()
@grouped
def get(person: PersonOptions, server: ServerOptions, *, as_json: JsonOption = False) -> None:
    """Show the profile of a person.

    Exit status 1: nothing is known of the person; 3: there is no server.
    """
    from offers.v1.profile_service_pb2 import GetProfileRequest

    request = GetProfileRequest(user=_user(person))
    with calling(server) as client:
        found = client.get_profile(request, timeout_s=server.timeout).profile
    _show(found, as_json=as_json)


@app.command()
@grouped
def update(
    person: PersonOptions, change: ChangeOptions, server: ServerOptions, *, consent: Consent = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Set and remove attributes of a person, and record consent decisions.

    Everything else stays as it is. Attributes are kept only of persons who
    have agreed to profiling: --grant profiling records that, --consent says
    so for this call. Withdrawing profiling removes all but the decisions,
    and with --erase-log the events and decisions in the log.
    """
    request = _update(person, change, consent)
    with calling(server) as client:
        response = client.update_profile(request, timeout_s=server.timeout)
    _show(response.profile, as_json=as_json)
    if change.erase_log:
        typer.echo(f"{response.erased_event_count:,} events erased from the log", err=True)


@app.command()
@grouped
def delete(
    person: PersonOptions,
    server: PatientOptions,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
) -> None:
    """Erase a person: profile, ids, events and inputs of learning.

    Erasing again is safe, also for a person who is not known.
    """
    from offers.v1.profile_service_pb2 import DeleteProfileRequest

    request = DeleteProfileRequest(user=_user(person))
    name = person.user or person.anonymous
    if not yes:
        if not sys.stdin.isatty():
            message = "there is nobody to ask: give --yes to erase the person"
            raise typer.BadParameter(message)
        typer.confirm(f"Erase everything that is stored about {name}?", abort=True, err=True)
    with calling(ServerOptions(*server)) as client:
        erased = client.delete_profile(request, timeout_s=server.timeout)
    typer.echo(
        f"{name} is erased, with {erased.event_count:,} event{'s' * (erased.event_count != 1)}; events from before are "
        f"dropped until {erased.tombstone_expire_time.ToJsonString()}"
    )


@app.command()
@grouped
def export(
    person: PersonOptions,
    server: PatientOptions,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="File to write. \\[default: stdout]")
    ] = None,
) -> None:
    """Write everything that is stored about a person as JSON.

    Exit status 1: nothing is stored; 3: there is no server.
    """
    from offers.v1.profile_service_pb2 import ExportProfileRequest

    request = ExportProfileRequest(user=_user(person))
    with calling(ServerOptions(*server)) as client:
        text = _json(client.export_profile(request, timeout_s=server.timeout))
    if out is None:
        typer.echo(text)
        return
    try:
        out.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise typer.Exit(fail(f"cannot write {out}: {error.strerror}")) from None


@app.command()
@grouped
def link(
    server: ServerOptions,
    *,
    user: Annotated[str, typer.Option(help="Id of the signed-in person.")],
    anonymous: Annotated[list[str], typer.Option(help="Id of a visitor who is that person; may be repeated.")],
    consent: Consent = None,
    as_json: JsonOption = False,
) -> None:
    """Link visitors to a known person, as at sign-in.

    From then on their profiles are one. The person must have agreed to
    profiling.
    """
    from offers.v1.context_pb2 import ConsentGrants
    from offers.v1.profile_service_pb2 import LinkIdentitiesRequest

    request = LinkIdentitiesRequest(user_id=user, anonymous_ids=anonymous)
    if (purposes := purposes_of("--consent", consent)) is not None:
        request.consent.CopyFrom(ConsentGrants(purposes=purposes))
    with calling(server) as client:
        linked = client.link_identities(request, timeout_s=server.timeout).profile
    _show(linked, as_json=as_json)


def _user(options: PersonOptions, consent: str | None = None) -> "User":
    from offers.client import person

    try:
        return person(options.user, options.anonymous, purposes_of("--consent", consent))
    except ValueError:
        raise typer.BadParameter("a person is known by --user or by --anonymous: give one") from None


def _update(person: PersonOptions, change: ChangeOptions, consent: str | None) -> Any:  # noqa: ANN401 - a message
    """Return the UpdateProfileRequest of some changes, with a mask of what they name."""
    from offers.v1.profile_pb2 import Consent, Profile
    from offers.v1.profile_service_pb2 import UpdateProfileRequest

    changed, attributes = Profile(), read_attributes(change.attribute or ())
    changed.attributes.update(attributes)
    paths = [f"attributes.{name}" for name in (*attributes, *(change.remove or ()))]
    if both := set(attributes).intersection(change.remove or ()):
        message = f"'{min(both)}' is to be set and to be removed: give one"
        raise typer.BadParameter(message)
    for option, names, granted in (("--grant", change.grant, True), ("--withdraw", change.withdraw, False)):
        for purpose in purposes_of(option, names or None) or ():
            changed.consents.append(Consent(purpose=purpose, granted=granted, recorded_by="offers profile update"))
    if changed.consents:
        paths.append("consents")
    if not (paths or change.erase_log):
        raise typer.BadParameter("there is nothing to change: give --attribute, --remove, --grant or --withdraw")
    request = UpdateProfileRequest(user=_user(person, consent), profile=changed, erase_log=change.erase_log)
    request.update_mask.paths.extend(paths)
    return request


def _show(found: "Profile", *, as_json: bool) -> None:
    """Print a profile as JSON, or as a table of its fields."""
    if as_json:
        typer.echo(_json(found))
        return
    from google.protobuf.json_format import MessageToDict
    from rich.table import Table
    from rich.text import Text

    table = Table("field", "value")
    for name, value in _flat(MessageToDict(found, preserving_proto_field_name=True)):
        table.add_row(Text(name), Text(value))
    stdout().print(table)


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:  # noqa: ANN401 - JSON
    """Return the values of a JSON object, each with the path of names that leads to it."""
    import orjson

    if isinstance(value, dict) and value:
        return [row for name, inner in value.items() for row in _flat(inner, f"{path}.{name}" if path else name)]
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return [row for index, inner in enumerate(value) for row in _flat(inner, f"{path}[{index}]")]
    return [(path, value if isinstance(value, str) else orjson.dumps(value).decode())]


def _json(message: "Message") -> str:
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False)
