"""The reference, generated from the sources: the protos, the settings, the command line and the reason codes.

`pages()` returns the text of every page by its path in the site. Nothing is written to disk: docs/hooks.py hands the
pages to MkDocs when the site is built.
"""

import ast
import inspect
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import typer.main

# Registers the extension by which protos say that a field is required.
from google.api.field_behavior_pb2 import REQUIRED, field_behavior
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from offers.cli import app
from offers.cli.words import code_words
from offers.server.limits import LIMITS, Limit
from offers.settings import Settings
from offers.v1.offer_service_pb2 import ReasonCode

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
PROTOC = ROOT / "build" / "protoc"
"""The generator that `make build/protoc` installs."""
PACKAGE = "offers.v1."
GENERATED = "This page is generated from the sources when the site is built."

# Field numbers of descriptor.proto: source locations name elements by paths of them.
_FILE_SYNTAX, _FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 12, 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM, _MESSAGE_ONEOF = 2, 3, 4, 8
_ENUM_VALUE, _SERVICE_METHOD = 2, 2

ElementPath = tuple[int, ...]


class Source(NamedTuple):
    """A proto file and the comment of each of its elements, by the element's path in the descriptor."""

    file: FileDescriptorProto
    comments: dict[ElementPath, str]

    @property
    def name(self) -> str:
        """Return the name of the file without folder and suffix, such as "offer_service"."""
        return Path(self.file.name).stem

    def comment(self, *path: int) -> str:
        """Return the comment of an element as Markdown; "" where it has none."""
        return prose(self.comments.get(path, ""))


def pages() -> dict[str, str]:
    """Return the Markdown of every page of the reference, by its path in the site."""
    sources = read_protos()
    homes = {name: source.name for source in sources for name in declared_types(source.file)}
    made = {f"reference/api/{source.name}.md": proto_page(source, homes) for source in sources}
    return {
        "reference/index.md": index_page(sources),
        "reference/settings.md": settings_page(),
        "reference/commands.md": commands_page(),
        "reference/reason-codes.md": reason_codes_page(sources),
        "reference/limits.md": limits_page(homes),
        **made,
    }


def read_protos() -> list[Source]:
    """Compile the protos with their comments. Raises FileNotFoundError without the generator."""
    if not PROTOC.is_dir():
        message = f"no generator in {PROTOC}: run `make {PROTOC.relative_to(ROOT)}`"
        raise FileNotFoundError(message)
    common = Path(str(files("google.api").joinpath("annotations.proto"))).parents[2]
    protos = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("offers/**/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "descriptors.binpb"
        includes = [f"-I{PROTOS}", f"-I{common}", f"-I{PROTOC / 'grpc_tools' / '_proto'}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *includes]
        subprocess.run(  # noqa: S603 - our own files
            [*command, "--include_source_info", f"--descriptor_set_out={out}", *protos],
            check=True,
            env={**os.environ, "PYTHONPATH": str(PROTOC)},
        )
        found = FileDescriptorSet.FromString(out.read_bytes())
    return [
        Source(file, {tuple(where.path): where.leading_comments for where in file.source_code_info.location})
        for file in sorted(found.file, key=lambda file: file.name)
    ]


def declared_types(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the names of a file's messages and enums, nested ones as "Outer.Inner"."""
    yield from (enum.name for enum in file.enum_type)
    for message in file.message_type:
        yield message.name
        yield from (f"{message.name}.{nested.name}" for nested in message.nested_type)
        yield from (f"{message.name}.{nested.name}" for nested in message.enum_type)


def prose(comment: str) -> str:
    """Turn a comment into Markdown: keep paragraphs and indented examples, escape what would be HTML."""
    lines = [line.removeprefix(" ") for line in comment.rstrip("\n").split("\n")]
    made: list[str] = []
    for line in lines:
        example = line.startswith("  ")
        if example != (bool(made) and made[-1].startswith("    ")) and made and made[-1]:
            made.append("")
        made.append(f"  {line}" if example else escaped(line))
    return "\n".join(made).strip("\n")


def escaped(text: str) -> str:
    """Escape angle brackets outside code spans."""
    parts = text.split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


def indented(text: str) -> str:
    """Indent the lines after the first, as the definition of a Markdown list of definitions."""
    return text.replace("\n", "\n    ").replace("\n    \n", "\n\n")


def index_page(sources: Iterable[Source]) -> str:
    """List the services, the proto files and the other pages of the reference."""
    lines = ["# Reference", "", GENERATED, "", "## Services", ""]
    sources = list(sources)
    for source in sources:
        for number, service in enumerate(source.file.service):
            comment = source.comment(_FILE_SERVICE, number)
            lines.append(f"- [`{service.name}`](api/{source.name}.md#{service.name}): {one_line(comment)}")
    lines += ["", "## Messages by file", ""]
    for source in sources:
        comment = one_line(source.comment(_FILE_SYNTAX))
        lines.append(f"- [`{source.name}.proto`](api/{source.name}.md): {comment}")
    lines += [
        "",
        "## The rest",
        "",
        "- [Settings](settings.md) of `offers serve`",
        "- [Commands](commands.md) and their options",
        "- [Reason codes](reason-codes.md): why an offer is in an answer, or why not",
        "- [Limits](limits.md) of requests and events",
    ]
    return "\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """Join the lines of a text."""
    return " ".join(text.split())


def proto_page(source: Source, homes: dict[str, str]) -> str:
    """Describe a proto file: services, messages, enums."""
    parts = [f"# {source.name}.proto", source.comment(_FILE_SYNTAX)]
    for number, service in enumerate(source.file.service):
        parts += service_parts(source, service, number, homes)
    for number, message in enumerate(source.file.message_type):
        parts += message_parts(source, message, (_FILE_MESSAGE, number), message.name, homes)
    for number, enum in enumerate(source.file.enum_type):
        parts += enum_parts(source, enum, (_FILE_ENUM, number), enum.name)
    return "\n\n".join(part for part in parts if part) + "\n"


def service_parts(source: Source, service: ServiceDescriptorProto, number: int, homes: dict[str, str]) -> Iterator[str]:
    """Describe a service and its methods."""
    yield f"## Service {service.name} {{ #{service.name} }}"
    yield source.comment(_FILE_SERVICE, number)
    for index, method in enumerate(service.method):
        yield f"### {method.name} {{ #{service.name}.{method.name} }}"
        yield signature(method, homes)
        yield source.comment(_FILE_SERVICE, number, _SERVICE_METHOD, index)


def signature(method: MethodDescriptorProto, homes: dict[str, str]) -> str:
    """Say what a method takes and returns, with links."""
    takes, returns = linked(method.input_type, homes), linked(method.output_type, homes)
    sent = "a stream of " if method.client_streaming else ""
    got = "a stream of " if method.server_streaming else ""
    return f"Takes {sent}{takes}, returns {got}{returns}."


def message_parts(
    source: Source, message: DescriptorProto, path: ElementPath, name: str, homes: dict[str, str]
) -> Iterator[str]:
    """Describe a message, its fields and what is nested in it."""
    yield f"## {name} {{ #{name} }}"
    yield source.comment(*path)
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for index, field in enumerate(message.field):
        comment = source.comment(*path, _MESSAGE_FIELD, index)
        said = kind(field, maps, homes)
        if field.HasField("oneof_index") and not field.proto3_optional:
            said += f", one of `{message.oneof_decl[field.oneof_index].name}`"
            if is_first_of_oneof(message, index):
                whole = source.comment(*path, _MESSAGE_ONEOF, field.oneof_index)
                comment = f"`{message.oneof_decl[field.oneof_index].name}`: {whole}\n\n{comment}"
        yield f"`{field.name}` · {said}\n:   {indented(comment)}"
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from message_parts(source, nested, (*path, _MESSAGE_NESTED, index), f"{name}.{nested.name}", homes)
    for index, enum in enumerate(message.enum_type):
        yield from enum_parts(source, enum, (*path, _MESSAGE_ENUM, index), f"{name}.{enum.name}")


def is_first_of_oneof(message: DescriptorProto, index: int) -> bool:
    """Tell whether a field is the first of its oneof, where the comment of the oneof is shown."""
    earlier = message.field[:index]
    return not any(
        one.HasField("oneof_index") and one.oneof_index == message.field[index].oneof_index for one in earlier
    )


def kind(field: FieldDescriptorProto, maps: dict[str, DescriptorProto], homes: dict[str, str]) -> str:
    """Say the type of a field, whether it repeats and whether it is required."""
    entry = maps.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        said = f"map of {type_words(entry.field[0], homes)} to {type_words(entry.field[1], homes)}"
    else:
        repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
        said = ("repeated " if repeated else "") + type_words(field, homes)
    required = REQUIRED in field.options.Extensions[field_behavior]
    return said + (", required" if required else "")


def type_words(field: FieldDescriptorProto, homes: dict[str, str]) -> str:
    """Name the type of a field, with a link where it is one of ours."""
    if field.type_name:
        return linked(field.type_name, homes)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def linked(type_name: str, homes: dict[str, str]) -> str:
    """Link a type of our package to where it is described; name any other type in full."""
    name = type_name.removeprefix(".").removeprefix(PACKAGE)
    return f"[`{name}`]({homes[name]}.md#{name})" if name in homes else f"`{name}`"


def enum_parts(source: Source, enum: EnumDescriptorProto, path: ElementPath, name: str) -> Iterator[str]:
    """Describe an enum and its values."""
    yield f"## {name} {{ #{name} }}"
    yield source.comment(*path)
    for index, value in enumerate(enum.value):
        comment = source.comment(*path, _ENUM_VALUE, index)
        yield f"`{value.name}` = {value.number}\n:   {indented(comment)}"


def settings_page() -> str:
    """Describe every setting: variable, default, meaning."""
    documented = setting_comments()
    parts = [
        "# Settings",
        one_line(inspect.getdoc(Settings) or ""),
        "Flags take precedence over the environment, the environment over the file, the file over the defaults.",
    ]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        told = "under the home folder" if field.default_factory is not None else f"`{plain(default)}`"
        limits = ", ".join(
            f"{sign} {getattr(limit, attribute)}"
            for limit in field.metadata
            for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
            if getattr(limit, attribute, None) is not None
        )
        values = f" · {limits}" if limits else ""
        comment = field.description or documented.get(name, "")
        flag = "--catalog" if name == "catalogs" else f"--{name.replace('_', '-')}"
        parts.append(f"`OFFERS_{name.upper()}` · `{flag}` · default {told}{values}\n:   {escaped(one_line(comment))}")
    return "\n\n".join(parts) + "\n"


def plain(default: Any) -> str:  # noqa: ANN401 - of any setting
    """Write a default as the environment variable would."""
    if isinstance(default, tuple):
        return "[" + ", ".join(f'"{one}"' for one in default) + "]"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, dict):
        return "{" + ", ".join(f'"{name}": {value}' for name, value in default.items()) + "}"
    return f"{default}" or '""'


def setting_comments() -> dict[str, str]:
    """Return the docstring below each setting in the source."""
    tree = ast.parse(inspect.getsource(Settings))
    body = tree.body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[ast.unparse(field.target)] = str(after.value.value)
    return found


def commands_page() -> str:
    """Describe every command with its help, arguments and options."""
    parts = ["# Commands", "The same text as `offers COMMAND --help`."]
    group: Any = typer.main.get_command(app)
    for name, command in sorted(leaves(group, "offers")):
        parts.append(f"## {name} {{ #{name.replace(' ', '-')} }}")
        parts.append(escaped(unmarked(inspect.cleandoc(command.help or ""))))
        for parameter in command.params:
            if getattr(parameter, "hidden", False) or "--help" in parameter.opts:
                continue
            parts.append(parameter_words(parameter))
    return "\n\n".join(parts) + "\n"


def leaves(group: Any, name: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - click has no types that typer keeps
    """Yield every command below a group under its full name."""
    for below, command in group.commands.items():
        full = f"{name} {below}"
        if hasattr(command, "commands"):
            yield from leaves(command, full)
        else:
            yield full, command


def parameter_words(parameter: Any) -> str:  # noqa: ANN401 - as above
    """Describe an argument or an option."""
    argument = parameter.param_type_name == "argument"
    if argument:
        title = f"`{(parameter.metavar or parameter.name).upper()}`"
    else:
        names = [*parameter.opts, *parameter.secondary_opts]
        value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
        title = ", ".join(f"`{name}{value}`" for name in names)
    required = ", required" if parameter.required else ""
    return f"{title}{required}\n:   {escaped(unmarked(one_line(parameter.help or '')))}"


def unmarked(text: str) -> str:
    """Drop the escapes that keep square brackets from being read as styles."""
    return re.sub(r"\\\[", "[", text)


def reason_codes_page(sources: Iterable[Source]) -> str:
    """List every reason code with its number, its name on the command line and its meaning."""
    source, number, enum = next(
        (source, number, enum)
        for source in sources
        for number, enum in enumerate(source.file.enum_type)
        if enum.name == "ReasonCode"
    )
    lines = [
        "# Reason codes",
        "",
        "`Proposition.reasons` says why an offer is in an answer.",
        "`FailedCheck.reason` of `ExplainOffers` says why an offer is not in it.",
        "The codes are stable: numbers and names are never reused.",
        "",
        "| number | code | on the command line | meaning |",
        "|---|---|---|---|",
    ]
    for index, value in enumerate(enum.value):
        meaning = one_line(source.comment(_FILE_ENUM, number, _ENUM_VALUE, index)).replace("|", "\\|")
        words = code_words(ReasonCode.ValueType(value.number)) if value.number else ""
        lines.append(f"| {value.number} | `{value.name}` | {words} | {meaning} |")
    return "\n".join(lines) + "\n"


def limits_page(homes: dict[str, str]) -> str:
    """List every limit of what callers send."""
    lines = ["# Limits", "", GENERATED, "", "| element | limits |", "|---|---|"]
    for name, stated in sorted(LIMITS.items()):
        home = homes.get(name.partition(".")[0], "")
        link = f"[`{name}`](api/{home}.md#{name.partition('.')[0]})" if home else f"`{name}`"
        lines.append(f"| {link} | {'; '.join(map(limit_words, stated))} |")
    return "\n".join(lines) + "\n"


def limit_words(limit: Limit) -> str:
    """Word the values an element may have."""
    unit = f" {limit.unit}" if limit.unit else ""
    return f"{limit.least:,} to {limit.most:,}{unit}" if limit.least else f"at most {limit.most:,}{unit}"
