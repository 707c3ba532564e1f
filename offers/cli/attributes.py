"""Attributes of a profile on the command line: NAME=VALUE, with a text or JSON as the value."""

from collections.abc import Iterable
from typing import Any

import typer


def read_attributes(words: Iterable[str]) -> dict[str, Any]:
    """Return the attributes that --attribute options name; the last one of a name counts."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            message = f"--attribute '{word}': give a name and a value, as in city=Lyon"
            raise typer.BadParameter(message)
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:  # noqa: ANN401 - JSON
    """Return the value of an attribute: JSON if it is that, else a text."""
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
