"""Membership in segments, explained: the terms of an expression that are false, and the values they read."""

import re
from typing import NamedTuple

from cel_expr_python import cel

from offers.catalogue.expressions import ROOTS, compiled, environment, field_of, mentions, tree, written
from offers.decision.segments.evaluate import Facts

_TOKEN = re.compile(
    r"""(?P<skipped>//[^\n]*|[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))"""
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<and>&&)|(?P<other>\|\||\?)",
    re.DOTALL,
)


class Value(NamedTuple):
    """A value that an expression reads."""

    name: str
    """Its path, as expressions write it."""
    text: str
    """The value in words, or "not there"."""


class Term(NamedTuple):
    """One of the terms of an expression that must all be true."""

    text: str
    held: bool
    error: str
    """Why its evaluation failed; "": it did not fail."""
    values: tuple[Value, ...]


class Membership(NamedTuple):
    """Whether a person is in a segment, and the terms that decide it."""

    held: bool
    terms: tuple[Term, ...]


def membership(expression: str, facts: Facts) -> Membership:
    """Evaluate an expression that was checked, and each of its terms on its own."""
    read = {name: getattr(facts, name) for name in ROOTS}
    activation = environment().Activation({**read, "now": facts.instant()})
    held, _ = _evaluated(compiled(expression), activation)
    terms = []
    for text in terms_of(expression):
        program = environment().compile(text)
        is_true, error = _evaluated(program, activation)
        paths = dict.fromkeys(mention.path for mention in mentions(tree(program)))
        values = tuple(Value(written(path), _shown(path, activation)) for path in paths)
        terms.append(Term(text, is_true, error, values))
    return Membership(held, tuple(terms))


def terms_of(expression: str) -> list[str]:
    """Return the terms that an expression joins with &&, as written."""
    parts: list[str] = []
    begin = depth = 0
    wraps = expression.lstrip().startswith("(")
    for found in _TOKEN.finditer(expression):
        if found["open"]:
            depth += 1
        elif found["close"]:
            depth -= 1
            wraps &= depth > 0 or not expression[found.end() :].strip()
        elif depth == 0 and found["other"]:
            return [expression.strip()]
        elif depth == 0 and found["and"]:
            parts.append(expression[begin : found.start()])
            begin = found.end()
    parts.append(expression[begin:])
    if len(parts) > 1:
        return [term for part in parts for term in terms_of(part)]
    if wraps:
        return terms_of(expression.strip()[1:-1])
    return [expression.strip()]


def _evaluated(program: cel.Expression, activation: cel.Activation) -> tuple[bool, str]:
    """Return whether an expression is true, and the error where its evaluation failed."""
    try:
        value = program.eval(activation)
    except RuntimeError as error:  # CEL stops at a list that is too long
        return False, str(error)
    if value.type() == cel.Type.ERROR:
        return False, str(value.value())
    return value.value() is True, ""


def _shown(path: tuple[str, ...], activation: cel.Activation) -> str:
    """Word the value at a path; enum values by their names."""
    value = environment().compile(written(path)).eval(activation)
    if value.type() == cel.Type.ERROR:
        return "not there"
    field, depth = field_of(path)
    if field is not None and depth == len(path) and field.enum_type is not None and value.type() == cel.Type.INT:
        names = field.enum_type.values_by_number
        return names[value.value()].name if value.value() in names else str(value.value())
    return _text(value.plain_value())


def _text(value: object) -> str:
    """Word a value, cut after 80 characters."""
    text = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return text if len(text) <= 80 else text[:80] + "..."
