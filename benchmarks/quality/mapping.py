"""Mapping files: templates of the API's messages for the columns of a data set."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from google.protobuf.json_format import ParseDict

from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_PROFILING,
    ConsentGrants,
    Context,
)
from offers.v1.offer_pb2 import Offer
from offers.v1.profile_pb2 import Profile
from offers.v1.venue_pb2 import Venue

FOLDER = Path(__file__).parent / "mappings"
CONSENT = ConsentGrants(purposes=[CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_LEARNING])
"""Consents of everybody in the data."""
_NOT_OF_IDS = re.compile(r"[^A-Za-z0-9._:-]+")

Row = Mapping[str, str]
"""Cells by column."""


@dataclass(frozen=True, slots=True)
class _Number:
    """A text that is a number once it is filled in."""

    template: str


@dataclass(frozen=True, slots=True)
class _Id:
    """A text that becomes an id."""

    template: str


@dataclass(frozen=True, slots=True)
class _Pick:
    """One of several parts, by a text."""

    by: str
    among: Mapping[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML with the tags !number, !id and !pick."""


def _number(loader: _Loader, node: yaml.ScalarNode) -> _Number:
    return _Number(str(loader.construct_scalar(node)))


def _id(loader: _Loader, node: yaml.ScalarNode) -> _Id:
    return _Id(str(loader.construct_scalar(node)))


def _pick(loader: _Loader, node: yaml.MappingNode) -> _Pick:
    said = loader.construct_mapping(node, deep=True)
    return _Pick(said["by"], said["among"])


_Loader.add_constructor("!number", _number)
_Loader.add_constructor("!id", _id)
_Loader.add_constructor("!pick", _pick)


def filled(tree: Any, row: Row) -> Any:  # noqa: ANN401 - what YAML can hold
    """Fill a template with a row's cells.

    Texts have "{column}"; `!number` makes numbers, `!id` ids, and `!pick` takes the part of `among` that `by` names.
    Empty results are None, and are left out of maps and lists.
    """
    match tree:
        case str():
            return tree.format_map(row) or None
        case _Number(template):
            text = template.format_map(row)
            return float(text) if text else None
        case _Id(template):
            return _NOT_OF_IDS.sub("-", template.format_map(row))
        case _Pick(by, among):
            return filled(among.get(by.format_map(row)), row)
        case dict():
            parts = {name: filled(part, row) for name, part in tree.items()}
            return {name: part for name, part in parts.items() if part is not None} or None
        case list():
            return [filled_part for part in tree if (filled_part := filled(part, row)) is not None]
        case _:
            return tree


@dataclass(frozen=True, slots=True)
class DataSet:
    """A mapping file. `catalog`, `venue`, `offer`, `context` and `profile` are templates of these messages."""

    said: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, folder: Path = FOLDER) -> Self:
        """Read the mapping of a data set."""
        return cls(_read(folder / f"{name}.yaml"))

    def rows(self, data: Path) -> list[list[Row]]:
        """Return the rows of each of its files in a folder."""
        found: list[list[Row]] = []
        for name in self.said["files"]:
            with (data / name).open(encoding="utf-8", newline="") as file:
                found.append(list(csv.DictReader(file)))
        return found

    def catalog(self, rows: Iterable[Row]) -> Catalog:
        """Return the catalogue of all venues and offers in the rows, with the strategies that all data sets share."""
        made = ParseDict(self.said["catalog"], Catalog())
        made.MergeFrom(ParseDict(_read(FOLDER / "switches.yaml"), Catalog()))
        venues: dict[str, Venue] = {}
        offers: dict[str, Offer] = {}
        for row in rows:
            if (offer_id := self.offer_id(row)) in offers:
                continue
            offers[offer_id] = ParseDict(filled(self.said["offer"], row), Offer())
            if "venue" in self.said:
                venue = ParseDict(filled(self.said["venue"], row), Venue())
                venues[venue.venue_id] = venue
        made.venues.extend(venues.values())
        made.offers.extend(offers.values())
        return made

    def offer_id(self, row: Row) -> str:
        """Return the id of the offer in a row."""
        return str(filled(self.said["offer"]["offer_id"], row))

    def context(self, row: Row, second: int) -> Context:
        """Return the context of a row at an instant, in seconds since 1970."""
        made = ParseDict(filled(self.said["context"], row), Context())
        made.user.consent.CopyFrom(CONSENT)
        made.time.seconds = second
        return made

    def profile(self, row: Row) -> Profile:
        """Return the profile of the person in a row."""
        return ParseDict(filled(self.said["profile"], row), Profile())


def _read(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - it is a SafeLoader
    return said
