"""Consent on the command line: purposes by name."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from offers.v1.context_pb2 import ConsentPurpose

NONE = "none"


def purposes_of(option: str, names: str | None) -> "list[ConsentPurpose.ValueType] | None":
    """Read purposes separated by commas, or "none"; None: the option is not given."""
    from offers.state.person.consent import PURPOSES

    if names is None:
        return None
    words = [name for word in names.split(",") if (name := word.strip().lower())]
    if words == [NONE]:
        return []
    if unknown := [name for name in words if name not in PURPOSES]:
        message = f"{option} '{names}': '{unknown[0]}' is not one of {', '.join(PURPOSES)}; {NONE} refuses all"
        raise typer.BadParameter(message)
    if not words:
        message = f"{option} names no purpose: give some of {', '.join(PURPOSES)}, or {NONE}"
        raise typer.BadParameter(message)
    return [PURPOSES[name] for name in dict.fromkeys(words)]
