"""The generated reference has everything there is, in words."""

import re

import pytest
import typer.main

from docs.reference import pages, prose
from offers.cli import app
from offers.cli.words import code_words
from offers.settings import Settings
from offers.v1 import event_service_pb2, offer_service_pb2, profile_service_pb2
from offers.v1.offer_service_pb2 import ReasonCode


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Generate the pages once."""
    return pages()


@pytest.mark.parametrize(
    "module", [offer_service_pb2, event_service_pb2, profile_service_pb2], ids=lambda one: one.__name__
)
def test_every_service_method_and_message_is_described(made: dict[str, str], module: object) -> None:
    """Each has an anchor by which other pages link to it."""
    described = module.DESCRIPTOR  # type: ignore[attr-defined]
    page = made[f"reference/api/{described.name.rpartition('/')[2].removesuffix('.proto')}.md"]
    for name, service in described.services_by_name.items():
        assert f"{{ #{name} }}" in page
        assert all(f"{{ #{name}.{method.name} }}" in page for method in service.methods)
    for name, message in described.message_types_by_name.items():
        assert f"{{ #{name} }}" in page
        assert all(f"`{field.name}` · " in page for field in message.fields)


def test_every_element_has_its_comment(made: dict[str, str]) -> None:
    """No field, value or heading stands without a description."""
    for path, page in made.items():
        assert not re.search(r"^:\s*$", page, re.MULTILINE), path


def test_every_setting_and_command_is_described(made: dict[str, str]) -> None:
    """Settings by their variables, commands by their names."""
    assert all(f"`OFFERS_{name.upper()}`" in made["reference/settings.md"] for name in Settings.model_fields)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert all(f"## offers {name}" in made["reference/commands.md"] for name in commands)


def test_every_reason_code_is_listed_in_words(made: dict[str, str]) -> None:
    """A row has the number, the name, the words of the command line and the meaning."""
    for name, number in ReasonCode.items()[1:]:
        assert f"| {number} | `{name}` | {code_words(number)} | " in made["reference/reason-codes.md"]


def test_comments_become_markdown() -> None:
    """Examples stay examples, and angle brackets are no HTML."""
    comment = " Named <this>, as `<that>`. Examples:\n   a == 1\n   b == 2\n More.\n"

    assert prose(comment) == "Named &lt;this>, as `<that>`. Examples:\n\n    a == 1\n    b == 2\n\nMore."
