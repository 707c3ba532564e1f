"""CSV files, read row by row with line numbers; rows that are not CSV are reported and skipped."""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from offers.catalogue.importing.encodings import first_byte_outside, lines_in
from offers.catalogue.importing.mapping import CsvOptions
from offers.catalogue.importing.rules import Row
from offers.errors import CatalogError, Problem

_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n"])"?[\r\n]*', re.IGNORECASE)
"""A first line by which spreadsheets name the delimiter, such as "sep=;"."""
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ESCAPED = re.compile("[\udc80-\udcff]")
"""A byte outside the encoding, as the error handler surrogateescape writes it."""
_ESCAPE = 0xDC00
"""Difference between such a character and its byte."""


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
        self._is_utf_16 = raw.read(2) in _UTF_16_MARKS
        raw.seek(0)
        # Bytes outside the encoding become surrogates, so that only their row is rejected.
        self._text = TextIOWrapper(raw, encoding=options.encoding, errors="surrogateescape", newline="")
        try:
            first = self._text.readline().removeprefix("\ufeff")
        except UnicodeError as error:
            raise self._undecodable(1, error) from None
        named = _SEPARATOR_LINE.fullmatch(first)
        self._lines_before = 0 if named is None else 1
        delimiter, lines = (options.delimiter, chain([first], self._text)) if named is None else (named[1], self._text)
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)
        self.columns = options.columns
        if options.columns:
            return
        line, header = next(self._lines(), (1, "the file is empty"))
        if isinstance(header, str):
            reason, _, fix = header.partition("; ")
            raise self._error(line, reason, fix or "start the file with a header row")
        self.columns = tuple(cell.strip() for cell in header)

    def rows(self) -> Iterator[tuple[int, Row | str]]:
        """Yield each row's first line and its cells that have a value, or the reason why it cannot be read.

        Rows without any text in their cells are passed over, as blank lines are.
        """
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
            line = self._line_number() + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                last = self._line_number()
                until = f" (lines {line} to {last} are lost)" if last > line else ""
                yield line, f"the row is not CSV: {error}{until}"
            except UnicodeError as error:
                raise self._undecodable(line, error) from None
            else:
                if fault := self._byte_outside(line, cells):
                    yield line, fault
                elif any(map(str.strip, cells)):
                    yield line, cells

    def _line_number(self) -> int:
        """Return the number of the last line read."""
        return self._lines_before + self._reader.line_num

    def _byte_outside(self, line: int, cells: Sequence[str]) -> str:
        """Return the fault of a row with a byte outside the encoding; "" where it has none. `line` is its first."""
        text = "".join(cells)
        if text.isascii() or not (found := _ESCAPED.search(text)):
            return ""
        at = line + lines_in(text[: found.start()])
        reason = f"the row is not text in the encoding {self._options.encoding}"
        return f"{reason}: byte 0x{ord(found[0]) - _ESCAPE:02X} on line {at}; {self._other_encoding()}"

    def _undecodable(self, line: int, error: UnicodeError) -> CatalogError:
        """Return the problem of a file that cannot be read on, with the first byte that is at fault."""
        reason = f"is not text in the encoding {self._options.encoding}"
        try:
            self._path.read_bytes().decode(self._options.encoding)
        except UnicodeDecodeError as first:
            line, byte = first_byte_outside(first)
            reason = f"{reason}: {byte}"
        except UnicodeError:
            reason = f"{reason}: {error}"
        return self._error(line, reason, self._other_encoding())

    def _other_encoding(self) -> str:
        likely = "utf-16" if self._is_utf_16 and "16" not in self._options.encoding else "cp1252, utf-16 or cp932"
        return f"name the file's as 'encoding' of csv in the mapping, such as {likely}"

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
