"""YAML and JSON texts parsed into trees of nodes with line numbers."""

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""The path of a value from the root of a document: ("offers", 3, "title")."""

MAX_DEPTH = 64
"""Most levels of nesting; a catalogue needs eight."""
MAX_EXPANDED = 1_000_000
"""Most values that the aliases of a document may expand to, so that a few lines cannot fill the memory."""

_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Scalar:
    """A single value as it is written, without quotes and escapes."""

    line: int
    text: str
    quoted: bool

    @property
    def empty(self) -> bool:
        """Whether it is a null value. `Null` and `NULL` are texts: they may be somebody's name."""
        return not self.quoted and self.text in {"", "~", "null"}


@dataclass(slots=True)
class Sequence:
    """A list."""

    line: int
    items: list["Node"] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """A map, with all its keys in the order they are written, including repeated ones."""

    line: int
    pairs: list[tuple[Scalar, "Node"]] = field(default_factory=list)


Node = Scalar | Sequence | Mapping

Report = Callable[[int, str, str], None]
"""Reports a fault: line, reason and fix."""


class DocumentSyntaxError(Exception):
    """A fault after which the text cannot be read any further."""

    def __init__(self, line: int, reason: str, fix: str) -> None:
        super().__init__(line, reason, fix)
        self.line, self.reason, self.fix = line, reason, fix


def dotted(path: Path) -> str:
    """Return a path in the form "offers[3].title"."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def camel_case(name: str) -> str:
    """Return the JSON name of a field, such as offerId for offer_id."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def line_of(root: Node, path: Path) -> int:
    """Return the line, from 1, of the value at a path, or of the nearest value around it."""
    node, line = root, root.line
    for step in path:
        if isinstance(node, Mapping) and isinstance(step, str):
            names = {step, camel_case(step)}
            found = next(((key.line, value) for key, value in node.pairs if key.text in names), None)
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            found = (node.items[step].line, node.items[step])
        else:
            found = None
        if found is None:
            break
        line, node = found
    return line


def read_yaml(text: str, report: Report) -> Node | None:
    """Parse the first YAML document of a text, or return None if there is none.

    Raises DocumentSyntaxError; faults after which the text can be read go to `report`. PyYAML's own composer is not
    used, because it recurses for nesting and expands aliases without a limit.
    """
    if (bad := _NOT_YAML.search(text)) is not None:
        line = text.count("\n", 0, bad.start()) + 1
        reason = f"not YAML: the character U+{ord(bad.group()):04X} is not allowed"
        raise DocumentSyntaxError(line, reason, "remove it, or write it as an escape in double quotes")
    try:
        return _YamlComposer(report).compose(yaml.parse(text, Loader=_YAML_LOADER))
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: escapes no character answers to
        mark = getattr(error, "problem_mark", None)
        reason = f"not YAML: {getattr(error, 'problem', None) or error}"
        if (context := getattr(error, "context_mark", None)) is not None:
            reason += f" {getattr(error, 'context', '')} that begins on line {context.line + 1}"
        fix = "correct the indentation, quotes or brackets here"
        line = min(mark.line + 1, len(text.splitlines())) if mark else 1  # libyaml may point past the end
        raise DocumentSyntaxError(line, reason, fix) from error


class _YamlComposer:
    """Builds the tree from events, with a stack of its own."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._root: Node | None = None
        self._open: list[tuple[Sequence | Mapping, str | None, int]] = []
        self._keys: list[Node | None] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0
        self._aliased = 0

    def compose(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                node = Scalar(event.start_mark.line + 1, event.value, bool(event.style))
                self._check_tag(event.tag, node.line)
                self._count += 1
                self._add(node)
                if event.anchor is not None:
                    self._anchors[event.anchor] = node, 1
            elif kind is yaml.MappingStartEvent:
                self._start(Mapping(event.start_mark.line + 1), event.anchor, event.tag)
            elif kind is yaml.SequenceStartEvent:
                self._start(Sequence(event.start_mark.line + 1), event.anchor, event.tag)
            elif kind in {yaml.MappingEndEvent, yaml.SequenceEndEvent}:
                self._end()
            elif kind is yaml.AliasEvent:
                self._alias(event.anchor, event.start_mark.line + 1)
            elif kind is yaml.DocumentStartEvent and self._root is not None:
                line = event.start_mark.line + 1
                self._report(line, "a second document begins here", "put each document into a file of its own")
                break
        return self._root

    def _start(self, node: Sequence | Mapping, anchor: str | None, tag: str | None) -> None:
        self._check_tag(tag, node.line)
        if len(self._open) >= MAX_DEPTH:
            reason = f"nested deeper than {MAX_DEPTH} levels"
            raise DocumentSyntaxError(node.line, reason, "write the fields of a Catalog, which need eight")
        self._count += 1
        self._open.append((node, anchor, self._count))
        self._keys.append(None)

    def _end(self) -> None:
        node, anchor, before = self._open.pop()
        self._keys.pop()
        self._add(node)
        if anchor is not None:
            self._anchors[anchor] = node, self._count - before + 1

    def _alias(self, anchor: str, line: int) -> None:
        if anchor not in self._anchors:
            reason = f"the alias *{anchor} names nothing that ends before it"
            self._report(line, reason, f"mark the value it stands for with &{anchor} further up")
            self._add(Scalar(line, "", quoted=False))
            return
        node, size = self._anchors[anchor]
        self._count += size
        self._aliased += size
        if self._aliased > MAX_EXPANDED:
            reason = f"the aliases stand for more than {MAX_EXPANDED:,} values"
            raise DocumentSyntaxError(line, reason, "write the values out instead of nesting aliases")
        self._add(node)

    def _add(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent = self._open[-1][0]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif (key := self._keys[-1]) is None:
            self._keys[-1] = node
        else:
            self._keys[-1] = None
            if isinstance(key, Scalar):
                parent.pairs.append((key, node))
            else:
                self._report(key.line, "the key of a map is not a name", "write a field name before the colon")

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag is not None:
            reason = f"the tag {tag.replace('tag:yaml.org,2002:', '!!')} cannot be used"
            self._report(line, reason, "leave it out: the schema says what a value is")


_JSON_TOKEN = re.compile(
    r'[ \t\r\n]*(?:(?P<string>"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+")'
    r"|(?P<plain>(?:-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?|true|false|null|NaN|-?Infinity)(?![\w.+-]))"
    r"|(?P<mark>[][{}:,]))",
    re.ASCII,
)
_JSON_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(text: str) -> Node | None:
    """Parse a JSON text, or return None if it is empty. Raises DocumentSyntaxError."""
    return _JsonReader(text).read()


class _JsonReader:
    """Parses JSON token by token, because the standard library keeps neither lines nor repeated keys."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        self._at = 0

    def read(self) -> Node | None:
        if _JSON_SPACE.fullmatch(self._text):
            return None
        root = self._value(*self._token("a value"), depth=1)
        end = self._skip_space()
        if end < len(self._text):
            raise self._error(end, "text goes on after the end of the document", "put one document into a file")
        return root

    def _skip_space(self) -> int:
        space = _JSON_SPACE.match(self._text, self._at)
        return space.end() if space else self._at

    def _line(self, position: int) -> int:
        return bisect_right(self._line_ends, position - 1) + 1

    def _error(self, position: int, reason: str, fix: str) -> DocumentSyntaxError:
        return DocumentSyntaxError(self._line(position), f"not JSON: {reason}", fix)

    def _token(self, wanted: str) -> tuple[str, str, int]:
        """Return the kind, text and position of the next token."""
        match = _JSON_TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            start = self._skip_space()
            found = self._text[start : start + 12].split("\n")[0] or "the end of the file"
            raise self._error(start, f"found {found!r} in place of {wanted}", "correct the quotes, commas or brackets")
        self._at = match.end()
        return match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)

    def _value(self, kind: str, text: str, position: int, depth: int) -> Node:
        line = self._line(position)
        if kind == "string":
            return self._string(text, line)
        if kind == "plain":
            return Scalar(line, text, quoted=False)
        if text not in "[{":
            raise self._error(position, f"found {text!r} in place of a value", "remove the comma or bracket too many")
        if depth > MAX_DEPTH:
            raise self._error(position, f"nested deeper than {MAX_DEPTH} levels", "write the fields of a Catalog")
        return self._list(line, depth) if text == "[" else self._map(line, depth)

    def _string(self, text: str, line: int) -> Scalar:
        return Scalar(line, json.loads(text) if "\\" in text else text[1:-1], quoted=True)

    def _list(self, line: int, depth: int) -> Sequence:
        node = Sequence(line)
        token = self._token("a value or ']'")
        while token[:2] != ("mark", "]"):
            node.items.append(self._value(*token, depth=depth + 1))
            if not self._more("]"):
                break
            token = self._token("a value")
            if token[:2] == ("mark", "]"):
                raise self._error(token[2], "a comma stands before ']'", "remove the comma")
        return node

    def _map(self, line: int, depth: int) -> Mapping:
        node = Mapping(line)
        token = self._token("a field name or '}'")
        while token[:2] != ("mark", "}"):
            kind, text, position = token
            if kind != "string":
                raise self._error(
                    position, f"found {text!r} in place of a field name", "write the name in double quotes"
                )
            key = self._string(text, self._line(position))
            kind, text, position = self._token("':'")
            if (kind, text) != ("mark", ":"):
                raise self._error(position, f"found {text!r} in place of ':'", "write ':' after the field name")
            node.pairs.append((key, self._value(*self._token("a value"), depth=depth + 1)))
            if not self._more("}"):
                break
            token = self._token("a field name")
            if token[:2] == ("mark", "}"):
                raise self._error(token[2], "a comma stands before '}'", "remove the comma")
        return node

    def _more(self, closing: str) -> bool:
        """Read the comma or closing bracket after a value, and return whether it was a comma."""
        kind, text, position = self._token(f"',' or '{closing}'")
        if kind != "mark" or text not in {",", closing}:
            raise self._error(position, f"found {text!r} in place of ',' or '{closing}'", "put a comma between values")
        return text == ","
