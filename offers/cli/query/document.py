"""The document that a query names: that of the catalogue it asks for, and of its map."""

from typing import TYPE_CHECKING, NamedTuple

import typer

from offers.cli.output import stderr
from offers.cli.query.options import MapOptions, WhatOptions

if TYPE_CHECKING:
    from offers.v1.catalog_pb2 import Catalog


class Document(NamedTuple):
    """A document that the server is said to serve."""

    catalog: "Catalog"
    version: str
    """The version that a server gives it, on a machine with the same data of time zones and holidays."""


def read_document(what: WhatOptions, map_: MapOptions) -> Document | None:
    """Read the document that --catalog names; None: it names none. Raises CatalogError with every problem in it."""
    if map_.map_ is not None and map_.map_.suffix.lower() not in {".geojson", ".json"}:
        message = f"--map '{map_.map_}': name it .geojson or .json"
        raise typer.BadParameter(message)
    path = what.catalog
    if path is None:
        if map_.map_ is not None:
            message = "--map needs --catalog PATH: the document that the server serves, such as catalog.yaml"
            raise typer.BadParameter(message)
        return None
    if not path.exists() and not path.suffix and len(path.parts) == 1:  # as an id is written
        message = f"--catalog names a document, and there is none at '{path}'"
        raise typer.BadParameter(f"{message}; to ask for a catalogue by its id, give --catalog-id {path}")
    from offers.catalogue import document
    from offers.catalogue.check import check
    from offers.catalogue.publish import fingerprint
    from offers.v1.catalog_pb2 import Catalog

    with stderr().status(f"reading {path}"):
        version = fingerprint(path)
        check(path)
        catalog = Catalog()
        for fragment in document.read(path, []):
            catalog.MergeFrom(fragment.catalog)
    if what.catalog_id not in {"", catalog.catalog_id}:
        message = f"--catalog-id asks for '{what.catalog_id}', and {path} is the catalogue '{catalog.catalog_id}'"
        raise typer.BadParameter(f"{message}: give one of the two")
    return Document(catalog, version)
