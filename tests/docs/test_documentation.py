"""The README says what there is: every setting, every command with its options, every target of the Makefile."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from offers.catalogue.check import check
from offers.catalogue.importing import import_table
from offers.cli import app
from offers.settings import Settings
from offers.testing import serving
from tests.paths import ROOT

README = ROOT / "README.md"
COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def options(command: str) -> set[str]:
    """Give the long names of a command's options."""
    return {name for option in COMMANDS[command].params for name in option.opts if name.startswith("--")}


def documented() -> str:
    """Read the README."""
    return README.read_text("utf-8")


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_is_documented(setting: str) -> None:
    """A setting is in the README under the name of its environment variable."""
    assert re.search(rf"`OFFERS_{setting.upper()}`", documented())


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented(command: str) -> None:
    """A command is in the README as one would type it, and has a line of help."""
    assert re.search(rf"`offers {command}\b", documented()) or re.search(
        rf"^(\$ )?offers {command}\b", documented(), re.MULTILINE
    )
    assert COMMANDS[command].help


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command in sorted(COMMANDS) for option in sorted(options(command))]
)
def test_every_option_has_a_line_of_help(command: str, option: str) -> None:
    """`offers COMMAND --help` explains each option."""
    (parameter,) = (parameter for parameter in COMMANDS[command].params if option in parameter.opts)
    assert parameter.help


def test_every_option_the_readme_shows_exists() -> None:
    """What the README tells people to type after `offers COMMAND` is understood."""
    lines = re.sub(r"\\\n\s*", " ", documented()).splitlines()
    shown = [match for line in lines if (match := re.match(r"(?:\$ )?(?:\.venv/bin/)?offers (\w+)(.*)", line))]
    unknown = [
        (command, option)
        for command, arguments in (match.groups() for match in shown)
        for option in re.findall(r"--[a-z][a-z-]*", arguments)
        if option not in options(command)
    ]

    assert shown
    assert [] == unknown


def test_serve_has_a_flag_for_every_setting_and_no_other() -> None:
    """Each setting can be given on the command line, under its own name."""
    flags = {f"--{name.replace('_', '-')}" for name in Settings.model_fields} - {"--catalogs"} | {
        "--catalog",
        "--config",
    }

    assert flags == options("serve")


def test_the_help_of_serve_tells_the_defaults_in_force() -> None:
    """The default that a flag's help states is the setting's."""
    for name, field in Settings.model_fields.items():
        flag = "--catalog" if name == "catalogs" else f"--{name.replace('_', '-')}"
        (parameter,) = (parameter for parameter in COMMANDS["serve"].params if flag in parameter.opts)
        told = re.search(r"\[default: (.*)\]", parameter.help)
        assert told
        if isinstance(field.default, int | float | str):
            kind = type(field.default)
            assert field.default == kind(told[1])


@pytest.mark.parametrize("target", ["run", "test", "check", "bench"])
def test_the_targets_people_begin_with_are_documented(target: str) -> None:
    """`make run`, `make test`, `make check` and `make bench` exist, and are in the README."""
    assert re.search(rf"^{target}:.* ## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert f"make {target}" in documented()


def blocks(language: str) -> list[str]:
    """Give the README's blocks of code in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", documented(), re.MULTILINE | re.DOTALL)


def test_the_readme_s_catalogue_is_good(tmp_path: Path) -> None:
    """The catalogue to begin with passes the check."""
    path = tmp_path / "corner.yaml"
    path.write_text(blocks("yaml")[0], "utf-8")

    assert 2 == check(path).offer_count


def test_the_readme_s_import_does_what_it_says(tmp_path: Path) -> None:
    """The example of an import gives two offers and the reject that the text names."""
    for name, text in zip(("lunch.csv", "cities.csv"), blocks("csv")[:2], strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "lunch.yaml").write_text(blocks("yaml")[1], "utf-8")

    result = import_table(tmp_path / "lunch.yaml", tmp_path / "lunch.csv")

    assert ["l-1", "l-2"] == [offer.offer_id for offer in result.catalog.offers]
    ((row, reason),) = [(one.row, one.reason) for one in result.rejects]
    assert 4 == row
    assert f"line 4 is rejected: `{reason}`" in documented().replace("\n", " ")


@pytest.mark.parametrize(
    ("file", "block", "kinds", "rejected"),
    [
        ("shops.csv", ("csv", 2), {"venues": ["s-1", "s-2"]}, "line 4"),
        ("districts.geojson", ("geojson", 0), {"zones": ["centre"], "offers": ["free-delivery-centre"]}, "feature 2"),
    ],
)
def test_the_readme_s_imports_of_places_do_what_they_say(
    tmp_path: Path, file: str, block: tuple[str, int], kinds: dict[str, list[str]], rejected: str
) -> None:
    """The examples of venues and zones give what the text says, and the reject that it names."""
    language, number = block
    (tmp_path / file).write_text(blocks(language)[number], "utf-8")
    mapping = next(text for text in blocks("yaml") if f"catalog_id: {Path(file).stem}" in text)
    (tmp_path / "mapping.yaml").write_text(mapping, "utf-8")

    result = import_table(tmp_path / "mapping.yaml", tmp_path / file)

    for name, ids in kinds.items():
        assert ids == [getattr(one, f"{name[:-1]}_id") for one in getattr(result.catalog, name)]
    (reject,) = result.rejects
    assert rejected == f"{result.noun} {reject.row}"
    quoted = re.search(
        rf"{rejected} is rejected: `(\w[^`]*)`", documented()[documented().index(file) :].replace("\n", " ")
    )
    assert quoted
    assert reject.reason.startswith(quoted[1])


def test_the_readme_s_programs_run() -> None:
    """Each block of Python runs as it stands, against a server at the address it names."""
    with serving() as served:
        for program in blocks("python"):
            exec(compile(program.replace("localhost:50051", served.target), str(README), "exec"), {})  # noqa: S102
