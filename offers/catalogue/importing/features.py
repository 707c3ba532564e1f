"""GeoJSON files, read feature by feature: the cells of a row are a feature's properties, its geometry and its id."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from offers.catalogue.geo.geojson import AreaError, parse
from offers.catalogue.importing.encodings import first_byte_outside
from offers.catalogue.importing.mapping import CsvOptions
from offers.catalogue.importing.rules import Row
from offers.errors import CatalogError, Problem

SUFFIXES = (".geojson", ".json")
"""Suffixes of GeoJSON files."""
GEOMETRY, IDENTITY = "$geometry", "$id"
"""Columns in addition to the properties: a feature's geometry as GeoJSON text, and its id."""

_SOME_AREA = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
_BLANKS = " \t\n\r"


class FeatureRows:
    """A GeoJSON FeatureCollection as a table: its columns are all properties, and its rows the features."""

    noun = "feature"
    """The unit in which rows are numbered."""

    def __init__(self, path: Path, options: CsvOptions) -> None:
        """Read a file. Raises CatalogError unless it is a FeatureCollection of longitudes and latitudes."""
        self._path = path
        self._options = options
        self._numbered = 0
        try:
            self._text = path.read_text(encoding="utf-8-sig")
            features = self._opened()
        except OSError as error:
            raise self._error("", f"cannot be read: {error.strerror}", "give the path of a GeoJSON file") from None
        except UnicodeDecodeError as error:
            reason = f"is not text in the encoding UTF-8: {first_byte_outside(error)[1]}"
            raise self._error("", reason, "save the file in UTF-8, as GeoJSON must be") from None
        except (ValueError, RecursionError) as error:
            raise self._error("", f"is not JSON: {error}", "correct the file there") from None
        self._places = [(begin, end) for begin, end, _ in features]
        names = dict.fromkeys(
            name
            for _, _, feature in features
            if isinstance(feature, dict) and isinstance(feature.get("properties"), dict)
            for name in feature["properties"]
        )
        self.columns = (*names, GEOMETRY, IDENTITY)

    def rows(self) -> Iterator[tuple[int, Row | str]]:
        """Yield each feature's number, from 1, and its cells that have a value, or the reason why it cannot be read."""
        for number, (begin, end) in enumerate(self._places, start=1):
            self._numbered = number
            yield number, self._row(self._text[begin:end])

    def position(self) -> tuple[int, int]:
        """Return the number of characters read so far, and of all characters."""
        size = len(self._text)
        done = self._numbered == len(self._places)
        return (size if done else self._places[max(self._numbered - 1, 0)][1]), size

    def _opened(self) -> list[tuple[int, int, Any]]:
        """Return the begin and end of each feature in the text, and its value."""
        decoder = json.JSONDecoder(parse_constant=_refused)
        kind, features, crs = None, None, None
        at = _expect(self._text, 0, "{")
        for name, begin, end in _members(self._text, at, decoder):
            if name == "features" and self._text[begin] == "[":
                if features is not None:
                    raise self._error(name, "is written twice", "put all features into one list")
                features = list(_elements(self._text, begin + 1, decoder))
            elif name == "type":
                kind = json.loads(self._text[begin:end])
            elif name == "crs":
                crs = json.loads(self._text[begin:end])
        if kind != "FeatureCollection" or features is None:
            reason = "is not a FeatureCollection with a list of features"
            raise self._error("", reason, 'write {"type": "FeatureCollection", "features": [...]}')
        if crs is not None:
            try:  # by the rules for areas
                parse(orjson.dumps({**_SOME_AREA, "crs": crs}).decode())
            except AreaError as error:
                raise self._error("crs", error.faults[0].reason, error.faults[0].fix) from None
        return features

    def _row(self, text: str) -> Row | str:
        twice: list[str] = []

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            made = dict(pairs)
            if len(made) < len(pairs):
                names = [name for name, _ in pairs]
                twice.extend(name for name in made if names.count(name) > 1)
            return made

        # Keep numbers as they are written: 1.50 is a price, and 007 an id.
        exact = json.JSONDecoder(parse_float=_Written, parse_int=_Written, object_pairs_hook=unique)
        feature = exact.decode(text)
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            return "is not a Feature"
        if twice:
            return f"{twice[0]!r} is written twice in it"
        properties = feature.get("properties")
        if not isinstance(properties, dict | None):
            return "its properties are not an object"
        cells = {name: _cell(value) for name, value in (properties or {}).items()}
        cells |= {GEOMETRY: _cell(feature.get("geometry")), IDENTITY: _cell(feature.get("id"))}
        try:
            "".join(cells.values()).encode()
        except UnicodeEncodeError:
            return "it holds half a surrogate pair, which is no text"
        return {name: cell for name, cell in cells.items() if cell not in self._options.null_values}

    def _error(self, field: str, reason: str, fix: str) -> CatalogError:
        return CatalogError([Problem(str(self._path), None, field, reason, fix)])


class _Written(str):
    """A number in its original spelling."""

    __slots__ = ()


def _cell(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a JSON value as the text of a cell."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else _compact(value)


def _compact(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a value as JSON without blanks, its numbers as they were written."""
    if isinstance(value, _Written):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(_compact, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_compact(name)}:{_compact(one)}' for name, one in value.items())}}}"
    return orjson.dumps(value).decode()


def _refused(name: str) -> Any:  # noqa: ANN401 - as JSONDecoder wants it
    raise json.JSONDecodeError(f"{name} is no number of JSON", name, 0)


def _members(text: str, at: int, decoder: json.JSONDecoder) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each member of an object, and the begin and end of its value; `at` is after the brace."""
    at = _skip(text, at)
    while text[at : at + 1] != "}":
        name, at = decoder.raw_decode(text, at)
        begin = _skip(text, _expect(text, at, ":"))
        _, at = decoder.raw_decode(text, begin)
        yield str(name), begin, at
        at = _next(text, at, "}")
    if text[at + 1 :].strip(_BLANKS):
        raise json.JSONDecodeError("Extra data", text, at + 1)


def _elements(text: str, at: int, decoder: json.JSONDecoder) -> Iterator[tuple[int, int, Any]]:
    """Yield the begin and end of each element of a list, and its value; `at` is after the bracket."""
    at = _skip(text, at)
    while text[at : at + 1] != "]":
        begin = at
        value, at = decoder.raw_decode(text, begin)
        yield begin, at, value
        at = _next(text, at, "]")


def _next(text: str, at: int, closing: str) -> int:
    """Return the position of the next element, after a comma, or of the closing character."""
    at = _skip(text, at)
    return at if text[at : at + 1] == closing else _skip(text, _expect(text, at, ","))


def _expect(text: str, at: int, wanted: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != wanted:
        raise json.JSONDecodeError(f"Expecting '{wanted}'", text, at)
    return at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at
