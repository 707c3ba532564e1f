"""README and docs say what there is: every setting, every command with its options, the targets of the Makefile."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from offers.catalogue.check import check
from offers.catalogue.importing import import_table
from offers.cli import app
from offers.settings import Settings
from tests.docs.pages import DOCS, PAGES, Block, blocks_of
from tests.paths import ROOT

README, IMPORTING, OPERATIONS = ROOT / "README.md", DOCS / "guides" / "importing.md", DOCS / "guides" / "operations.md"
README_LINES = 200
"""What can be read in five minutes."""
COMMANDS: dict[str, Any] = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def options(command: str) -> set[str]:
    """Give the long names of a command's options, with those of the commands below it."""
    below = getattr(COMMANDS[command], "commands", {}).values()
    parameters = [parameter for one in (COMMANDS[command], *below) for parameter in one.params]
    return {name for parameter in parameters for name in parameter.opts if name.startswith("--")}


def documented() -> str:
    """Read README and docs."""
    return "\n".join(page.read_text("utf-8") for page in PAGES)


def test_the_readme_is_read_in_five_minutes() -> None:
    """The README is short; the rest is in docs."""
    assert len(README.read_text("utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_is_documented(setting: str) -> None:
    """A setting is in the guide to operations under the name of its environment variable."""
    assert re.search(rf"`OFFERS_{setting.upper()}`", OPERATIONS.read_text("utf-8"))


def test_the_guide_tells_the_defaults_in_force() -> None:
    """The default that the guide to operations states is the setting's."""
    rows = dict(re.findall(r"^\| `OFFERS_(\w+)` \| ([^|]*) \|", OPERATIONS.read_text("utf-8"), re.MULTILINE))
    stated = {name: field.default for name, field in Settings.model_fields.items() if field.default is not None}
    numbers = {name: value for name, value in stated.items() if isinstance(value, int | float)}
    texts = {name: value for name, value in stated.items() if isinstance(value, str) and value}

    assert numbers
    assert [] == [name for name, value in texts.items() if rows[name.upper()] != value]
    assert [] == [
        name
        for name, value in numbers.items()
        if rows[name.upper()] != (str(value).lower() if isinstance(value, bool) else f"{value:g}")
    ]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented(command: str) -> None:
    """A command is on a page as one would type it, and has a line of help."""
    assert re.search(rf"`offers {command}\b", documented()) or re.search(
        rf"^(\$ )?offers {command}\b", documented(), re.MULTILINE
    )
    assert COMMANDS[command].help


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command in sorted(COMMANDS) for option in sorted(options(command))]
)
def test_every_option_has_a_line_of_help(command: str, option: str) -> None:
    """`offers COMMAND --help` explains each option."""
    below = getattr(COMMANDS[command], "commands", {}).values()
    parameters = [parameter for one in (COMMANDS[command], *below) for parameter in one.params]
    assert all(parameter.help for parameter in parameters if option in parameter.opts)


def test_every_option_a_page_shows_exists() -> None:
    """What pages tell people to type after `offers COMMAND` is understood."""
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
            assert field.default == (not told[1].startswith("no-") if kind is bool else kind(told[1]))


@pytest.mark.parametrize("target", ["run", "test", "check", "bench"])
def test_the_targets_people_begin_with_are_documented(target: str) -> None:
    """`make run`, `make test`, `make check` and `make bench` exist, and are on a page."""
    assert re.search(rf"^{target}:.* ## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert f"make {target}" in documented()


def saved(name: str) -> Block:
    """Return the block of the guide to importing that is to be saved under a name."""
    return next(block for block in blocks_of(IMPORTING) if (block.kind, block.value) == ("file", name))


def test_the_readme_s_catalogue_is_that_of_getting_started(tmp_path: Path) -> None:
    """The catalogue to begin with passes the check, and is the same on both pages."""
    pages = (README, DOCS / "getting-started.md")
    texts = {block.text for page in pages for block in blocks_of(page) if block.value == "corner.yaml"}
    (text,) = texts
    path = tmp_path / "corner.yaml"
    path.write_text(text, "utf-8")

    assert 2 == check(path).offer_count


@pytest.mark.parametrize(
    ("file", "kinds", "rejected"),
    [
        ("lunch.csv", {"offers": ["l-1", "l-2"]}, "line 4"),
        ("shops.csv", {"venues": ["s-1", "s-2"]}, "line 4"),
        ("districts.geojson", {"zones": ["centre"], "offers": ["free-delivery-centre"]}, "feature 2"),
    ],
)
def test_the_imports_of_the_guide_do_what_it_says(
    tmp_path: Path, file: str, kinds: dict[str, list[str]], rejected: str
) -> None:
    """The examples of offers, venues and zones give what the text says, and the reject that it names."""
    mapping = f"{Path(file).stem}.yaml"
    for name in (file, mapping, "cities.csv"):
        (tmp_path / name).write_text(saved(name).text, "utf-8")

    result = import_table(tmp_path / mapping, tmp_path / file)

    for name, ids in kinds.items():
        assert ids == [getattr(one, f"{name[:-1]}_id") for one in getattr(result.catalog, name)]
    (reject,) = result.rejects
    assert rejected == f"{result.noun} {reject.row}"
    text = IMPORTING.read_text("utf-8")
    quoted = re.search(rf"{rejected} is rejected: `(\w[^`]*)`", text[text.index(file) :].replace("\n", " "))
    assert quoted
    assert reject.reason.startswith(quoted[1])
    assert file != "lunch.csv" or reject.reason == quoted[1]


def test_the_index_of_decision_records_is_complete() -> None:
    """Every record has its line."""
    index = (DOCS / "decisions" / "index.md").read_text("utf-8")

    assert [] == [path.name for path in (DOCS / "decisions").glob("[0-9]*.md") if f"({path.name})" not in index]


def test_a_catalogue_is_named_alike_in_every_command() -> None:
    """--catalog is a document everywhere, --catalog-id an id; where --catalog was an id, the error names the other."""
    kinds = {
        (option, parameter.metavar)
        for command in COMMANDS.values()
        for one in (command, *getattr(command, "commands", {}).values())
        for parameter in one.params
        for option in parameter.opts
        if option in {"--catalog", "--catalog-id"}
    }
    assert {("--catalog", "PATH"), ("--catalog-id", "ID")} == kinds

    refused = CliRunner().invoke(app, ["events", "import", "x.jsonl", "--catalog", "demo"])
    assert 2 == refused.exit_code
    assert "--catalog-id" in refused.output
