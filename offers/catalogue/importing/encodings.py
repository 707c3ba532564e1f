"""Bytes of a file that are no text in its encoding, as faults name them."""

import re

_LINE_END = re.compile(r"\r\n|\r|\n")


def lines_in(text: str) -> int:
    """Return the number of line ends in a text."""
    return len(_LINE_END.findall(text))


def first_byte_outside(error: UnicodeDecodeError) -> tuple[int, str]:
    """Return the line of the byte at which decoding a whole file ended, from 1, and the byte in words."""
    before = error.object[: error.start].decode(error.encoding, "replace")
    line = lines_in(before) + 1
    return line, f"byte 0x{error.object[error.start]:02X} on line {line}"
