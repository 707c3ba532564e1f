"""CSV files, read row by row with line numbers; rows that are not CSV are reported and skipped."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from offers.catalogue.importing.mapping import CsvOptions
from offers.catalogue.importing.rules import Row
from offers.errors import CatalogError, Problem


class CsvRows:
    """An open CSV file: its header, then its rows."""

    noun = "line"
    """The unit in which rows are numbered."""

    def __init__(self, path: Path, raw: BinaryIO, options: CsvOptions) -> None:
        """Read the header from `raw`, the file at its beginning. Raises CatalogError if there is none."""
        self._path = path
        self._raw = raw
        self._size = path.stat().st_size
        self._options = options
        # Bytes outside the encoding become surrogates, so that only their row is rejected.
        text = TextIOWrapper(raw, encoding=options.encoding, errors="surrogateescape", newline="")
        self._reader = csv.reader(text, delimiter=options.delimiter, strict=True)
        self.columns = options.columns
        if options.columns:
            return
        _, header = next(self._lines(), (1, "the file is empty"))
        if isinstance(header, str):
            raise self._error(1, header, "start the file with a header row")
        self.columns = tuple(cell.strip() for cell in header)

    def rows(self) -> Iterator[tuple[int, Row | str]]:
        """Yield each row's first line and its cells that have a value, or the reason why it cannot be read."""
        for line, cells in self._lines():
            if isinstance(cells, str):
                yield line, cells
            elif len(cells) != len(self.columns):
                header = "csv.columns" if self._options.columns else "the header"
                yield line, f"the row has {len(cells)} cells, but {header} has {len(self.columns)}"
            else:
                named = zip(self.columns, map(str.strip, cells), strict=True)
                yield line, {column: cell for column, cell in named if cell not in self._options.null_values}

    def position(self) -> tuple[int, int]:
        """Return the number of bytes read so far, and of all bytes."""
        return min(self._raw.tell(), self._size), self._size

    def _lines(self) -> Iterator[tuple[int, list[str] | str]]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
                "".join(cells).encode()
            except StopIteration:
                return
            except UnicodeEncodeError:
                yield line, f"the row is not text in the encoding {self._options.encoding}"
            except csv.Error as error:
                until = f" (lines {line} to {self._reader.line_num} are lost)" if self._reader.line_num > line else ""
                yield line, f"the row is not CSV: {error}{until}"
            except UnicodeError as error:
                raise self._error(line, f"is not text: {error}", "set csv.encoding in the mapping") from None
            else:
                if cells:
                    yield line, cells

    def _error(self, line: int, reason: str, fix: str) -> CatalogError:
        return CatalogError([Problem(str(self._path), line, "", reason, fix)])


@contextmanager
def open_csv(path: Path, options: CsvOptions) -> Iterator[CsvRows]:
    """Open a CSV file. Raises CatalogError if it cannot be read."""
    try:
        with path.open("rb") as raw:
            yield CsvRows(path, raw, options)
    except OSError as error:
        fix = "give the path of a CSV file"
        raise CatalogError([Problem(str(path), None, "", f"cannot be read: {error.strerror}", fix)]) from None
