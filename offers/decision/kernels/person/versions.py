"""Versions in encoded texts, by the precedence of semver.org: the loop of catalogue.functions.semver_compare."""

import numpy as np

from offers.compiled import inner

Text = bytes | np.ndarray
_DOT, _DASH, _PLUS, _ZERO = ord("."), ord("-"), ord("+"), ord("0")


@inner
def is_version(data: Text, begin: int, end: int) -> bool:
    """Return whether the text between two offsets is a version; minor and patch number may be missing."""
    at = begin
    for part in range(3):
        first = at
        at = _digits_end(data, at, end)
        if at == first or (at - first > 1 and data[first] == _ZERO):
            return False
        if part == 2 or at == end or data[at] != _DOT:
            break
        at += 1
    for mark in (_DASH, _PLUS):
        more = at < end and data[at] == mark
        while more:
            first = at + 1
            at = _label_end(data, first, end)
            if at == first:
                return False
            is_number = _digits_end(data, first, at) == at
            if mark == _DASH and is_number and at - first > 1 and data[first] == _ZERO:
                return False
            more = at < end and data[at] == _DOT
    return at == end


@inner
def version_order(data: Text, begin: int, end: int, text: Text, first: int, last: int) -> int:
    """Return -1, 0 or 1 as one version comes before another, is as new, or comes after; both must be versions."""
    at, to = begin, first
    for part in range(3):
        stop, halt = _digits_end(data, at, end), _digits_end(text, to, last)
        order = _number_order(data, at, stop, text, to, halt)
        if order != 0:
            return order
        at, to = stop, halt
        if part < 2:
            at += at < end and data[at] == _DOT
            to += to < last and text[to] == _DOT
    before, earlier = at < end and data[at] == _DASH, to < last and text[to] == _DASH
    if not (before and earlier):
        return np.int64(earlier) - np.int64(before)
    while True:
        stop, halt = _label_end(data, at + 1, end), _label_end(text, to + 1, last)
        order = _label_order(data, at + 1, stop, text, to + 1, halt)
        if order != 0:
            return order
        at, to = stop, halt
        more, longer = at < end and data[at] == _DOT, to < last and text[to] == _DOT
        if not (more and longer):
            return np.int64(more) - np.int64(longer)


@inner
def _label_order(data: Text, at: int, end: int, text: Text, to: int, last: int) -> int:
    """Compare two labels: numbers by their size and before all others, the others by their bytes."""
    is_number, is_numeric = _digits_end(data, at, end) == end, _digits_end(text, to, last) == last
    if is_number and is_numeric:
        return _number_order(data, at, end, text, to, last)
    if is_number != is_numeric:
        return -1 if is_number else 1
    return _byte_order(data, at, end, text, to, last)


@inner
def _number_order(data: Text, at: int, end: int, text: Text, to: int, last: int) -> int:
    """Compare two numbers without leading zeros; one without digits is 0."""
    size = end - at if end - at != 1 or data[at] != _ZERO else 0
    length = last - to if last - to != 1 or text[to] != _ZERO else 0
    if size != length:
        return 1 if size > length else -1
    return _byte_order(data, at, at + size, text, to, to + length)


@inner
def _byte_order(data: Text, at: int, end: int, text: Text, to: int, last: int) -> int:
    for index in range(min(end - at, last - to)):
        if data[at + index] != text[to + index]:
            return 1 if data[at + index] > text[to + index] else -1
    size, length = end - at, last - to
    return (size > length) - np.int64(size < length)


@inner
def _digits_end(data: Text, at: int, end: int) -> int:
    """Return where the digits from an offset on end."""
    while at < end and _ZERO <= data[at] <= _ZERO + 9:
        at += 1
    return at


@inner
def _label_end(data: Text, at: int, end: int) -> int:
    """Return where the letters, digits and hyphens from an offset on end."""
    while at < end:
        byte = data[at]
        is_letter = 65 <= byte <= 90 or 97 <= byte <= 122
        if not (is_letter or _ZERO <= byte <= _ZERO + 9 or byte == _DASH):
            break
        at += 1
    return at
