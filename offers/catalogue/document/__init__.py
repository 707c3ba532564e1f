"""Catalogue documents: YAML, JSON and length-delimited binary files of Catalog messages, read and written."""

from offers.catalogue.document.formats import (
    MAX_FRAGMENT_BYTES,
    SUFFIXES,
    Fragment,
    files,
    read,
    unreadable,
    varint,
    write_document,
    write_fragments,
)

__all__ = [
    "MAX_FRAGMENT_BYTES",
    "SUFFIXES",
    "Fragment",
    "files",
    "read",
    "unreadable",
    "varint",
    "write_document",
    "write_fragments",
]
