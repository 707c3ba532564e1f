"""Attributes of a profile on the command line: NAME=VALUE, with a text or JSON as the value."""

from collections.abc import Iterable
from typing import Any

import typer


def read_attributes(words: Iterable[str]) -> dict[str, Any]:
    """Return the attributes that --attribute options name; the last one of a name counts."""
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            message = f"--attribute '{word}': give a name and a value, as in city=Lyon"
            raise typer.BadParameter(message)
        found[name] = value = _value(text)
        if not _is_exact(value):
            message = f"--attribute '{word}': numbers of attributes are exact only below 2^53"
            raise typer.BadParameter(f"{message}; write it as text: --attribute '{name}=\"{text}\"'")
    return found


def _value(text: str) -> Any:  # noqa: ANN401 - JSON
    """Return the value of an attribute: JSON if it is that, else a text."""
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _is_exact(value: Any) -> bool:  # noqa: ANN401 - JSON
    """Return whether every whole number in a value is stored as it is."""
    from offers.model.numbers import is_exact

    if isinstance(value, dict | list):
        return all(map(_is_exact, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or is_exact(value)
