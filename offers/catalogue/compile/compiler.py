"""Compile a catalogue document into a snapshot: check it, collect its offers, write the arrays and the messages."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from offers.catalogue import snapshot
from offers.catalogue.check import check
from offers.catalogue.compile.builder import Builder
from offers.catalogue.compile.messages import FILE, writing
from offers.catalogue.definitions import Definitions, definitions
from offers.catalogue.document import files, read
from offers.errors import CatalogError, Problem

CONCURRENT_BYTES: Final = 32 << 20
"""Documents of at least this size are checked by a process of their own. Starting one takes half a second."""


def compile_snapshot(source: Path, path: Path, version: str) -> Definitions:
    """Check the document `source`, write its snapshot to the directory `path`, and return the definitions.

    Raises CatalogError with every problem of the document. Nothing is written then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-messages-") as folder:
        messages = Path(folder, FILE)
        checked, columns, meta = _compile(source, messages)
        snapshot.write(path, version, columns, meta, messages)
    return checked


def _compile(source: Path, messages: Path) -> "tuple[Definitions, dict[str, NDArray[Any]], dict[str, Any]]":
    """Return the definitions, arrays and meta of a document, and write its messages to the file `messages`."""
    checked: Definitions
    if sum(file.stat().st_size for file in files(source, [])) < CONCURRENT_BYTES:
        checked = check(source)
        builder = _build(source, checked, messages)
        columns = builder.columns()
    else:
        checked, builder, columns = _check_and_build(source, messages)
    return checked, columns, builder.meta(columns)


def _build(source: Path, checked: Definitions, messages: Path) -> Builder:
    """Collect the offers of a document. Raises CatalogError when the document has changed since it was checked."""
    builder = Builder(checked)
    problems: list[Problem] = []
    with writing(messages, checked) as writer:
        for fragment in read(source, problems, unknown=False):
            for offer in fragment.catalog.offers:
                builder.add(offer)
                writer.add(offer)
    if problems:
        raise CatalogError(problems)
    return builder


def _check_and_build(source: Path, messages: Path) -> "tuple[Definitions, Builder, dict[str, NDArray[Any]]]":
    """Check in a process of its own while this one collects the offers: each takes about half of the time."""
    with subprocess.Popen([sys.executable, "-P", "-m", "offers.catalogue.check", str(source)]) as checking:  # noqa: S603
        try:
            checked = definitions(source)
            builder = _build(source, checked, messages)
            columns = builder.columns()
        except Exception:
            check(source)  # raises the problems of the document, if these are the reason
            raise
    if checking.returncode != 0:
        return check(source), builder, columns
    return checked, builder, columns
