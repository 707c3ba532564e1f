"""Judge: evaluate segments that are compiled to steps over the encoded person and request (see predicates.py).

Other segments are left to CEL: segments/evaluate.py evaluates both kinds in Python.
"""

import numpy as np

from offers.compiled import apart, inner
from offers.decision.kernels.memory.encoded import BYTES, FIXED64, VARINT, double, following, is_same, last_of, varint
from offers.decision.kernels.memory.records import Table, i4, i8, u1
from offers.decision.kernels.memory.scratch import PersonFact, ScratchArray, values_of
from offers.decision.kernels.person.versions import is_version, version_order
from offers.decision.segments.predicates import (
    ABSENT,
    AS_IT_IS,
    CONTAINS,
    ERROR,
    FALSE,
    IS_THERE,
    IS_TRUE,
    JOINS,
    LIST,
    NEGATES,
    NULL,
    NUMBER,
    OF_COUNT,
    OF_DOUBLE,
    OF_DOUBLES,
    OF_INTEGER,
    OF_MESSAGE,
    OF_MESSAGES,
    OF_STRUCT,
    OF_TEXT,
    OF_TEXTS,
    PARTS,
    SAYS,
    SMALL,
    STRUCT,
    TEXT,
    TRUE,
    TRUTH,
    VERSES,
    Rules,
    paths_of,
    steps_of,
)

LEFT_TO_CEL = ERROR + 1
"""Verdict of a segment that has no steps; the others are FALSE, TRUE and ERROR."""
_EQUAL, _UNEQUAL, _LESS, _LESS_OR_EQUAL, _GREATER = range(5)
"""Comparisons, in the order of predicates.py."""
_ENTRY, _KEY = 1 << 3 | BYTES, 1 << 3 | BYTES
"""Tags of the entries of google.protobuf.Struct and ListValue, and of the keys of map entries."""
_VALUE_NUMBER, _VALUE_TEXT = 2 << 3 | FIXED64, 2 << 3 | BYTES
_NUMBER_VALUE, _STRING_VALUE, _BOOL_VALUE = 2 << 3 | FIXED64, 3 << 3 | BYTES, 4 << 3 | VARINT
_STRUCT_VALUE, _LIST_VALUE = 5 << 3 | BYTES, 6 << 3 | BYTES


@apart
def judge(rules: Table, scratch: Table, number: int, record: bytes, request: bytes) -> int:
    """Return the verdict on a segment: FALSE, TRUE, ERROR or LEFT_TO_CEL.

    PersonFact has where the profile stands in the record and the context in the request.
    """
    steps, firsts, stack, top = steps_of(rules), i4(rules, Rules.step_first), u1(scratch, ScratchArray.stack), 0
    if firsts[number] == firsts[number + 1]:
        return LEFT_TO_CEL
    for index in range(firsts[number], firsts[number + 1]):
        does = steps[index].does
        if does == NEGATES:
            if stack[top - 1] != ERROR:
                stack[top - 1] = 1 - stack[top - 1]
        elif does in (JOINS, PARTS):
            top -= 1
            stack[top - 1] = _joined(stack[top - 1], stack[top], FALSE if does == JOINS else TRUE)
        elif does == SAYS:
            stack[top] = TRUE if steps[index].number != 0.0 else FALSE
            top += 1
        else:
            path = steps[index].path
            of_profile = paths_of(rules)[path].of_profile != 0
            data = record if of_profile else request
            if values_of(scratch)[path].stamp != i8(scratch, ScratchArray.person)[PersonFact.number]:
                _read(rules, scratch, path, data)
            stack[top] = _compare(rules, scratch, index, data)
            top += 1
    return np.int64(stack[0])


@inner
def _joined(one: int, other: int, decisive: int) -> int:
    """Return the conjunction or disjunction of two verdicts: a decisive one outweighs an error in the other."""
    if decisive in (one, other):
        return decisive
    return ERROR if ERROR in (one, other) else 1 - decisive


@inner
def _read(rules: Table, scratch: Table, number: int, data: bytes) -> None:
    """Read the value of a path into ScratchArray.value."""
    facts = i8(scratch, ScratchArray.person)
    path, value, tags = paths_of(rules)[number], values_of(scratch)[number], i4(rules, Rules.tag)
    if path.of_profile:
        begin, end = facts[PersonFact.profile_begin], facts[PersonFact.profile_end]
    else:
        begin, end = facts[PersonFact.context_begin], facts[PersonFact.context_end]
    value.stamp, value.kind, value.number, value.begin, value.end = facts[PersonFact.number], ABSENT, 0.0, 0, 0
    if path.hidden and facts[PersonFact.hidden]:
        begin = -1
    is_keyed = path.encoding >= OF_STRUCT
    for index in range(path.first, path.last - (is_keyed or path.encoding == OF_COUNT)):
        if begin >= 0:
            begin, end = last_of(data, begin, end, tags[index])
    if path.encoding == OF_COUNT:
        value.kind, value.number = NUMBER, (float(_count(data, begin, end, tags[path.last - 1])) if begin >= 0 else 0.0)
    elif path.encoding == OF_MESSAGE:
        value.kind = NULL if begin >= 0 else ABSENT
    elif is_keyed:
        if begin >= 0:
            _read_keyed(rules, scratch, number, data, begin, end)
    elif path.encoding == OF_TEXT:
        value.kind = TEXT
        if begin >= 0:
            value.begin, value.end = begin, end
    elif path.encoding == OF_DOUBLE:
        value.kind, value.number = NUMBER, (double(data, begin) if begin >= 0 else 0.0)
    else:
        value.kind = NUMBER if path.encoding == OF_INTEGER else TRUTH
        value.number = float(varint(data, begin, end)[0]) if begin >= 0 else 0.0


@inner
def _count(data: bytes, at: int, end: int, wanted: int) -> int:
    """Return how many fields of a tag the message between two offsets has."""
    count = 0
    while 0 <= at < end:
        tag, _, at = following(data, at, end)
        count += at >= 0 and tag == wanted
    return count


@inner
def _read_keyed(rules: Table, scratch: Table, number: int, data: bytes, begin: int, end: int) -> None:
    """Read a value that stands under a key of the message between two offsets."""
    path, text = paths_of(rules)[number], u1(rules, Rules.text)
    tag = i4(rules, Rules.tag)[path.last - 1]
    if path.encoding == OF_STRUCT:
        begin, end = last_of(data, begin, end, tag)
        tag = _ENTRY
    at = begin
    while 0 <= at < end:
        found, entry, at = following(data, at, end)
        if at < 0 or found != tag:
            continue
        key_begin, key_end = last_of(data, entry, at, _KEY)
        if is_same(data, max(key_begin, 0), max(key_end, 0), text, path.key_first, path.key_last):
            _read_entry(rules, scratch, number, data, entry, at)


@inner
def _read_entry(rules: Table, scratch: Table, number: int, data: bytes, entry: int, end: int) -> None:
    """Read the value of a map's entry between two offsets."""
    encoding, value = paths_of(rules)[number].encoding, values_of(scratch)[number]
    if encoding == OF_MESSAGES:
        value.kind = NULL
        return
    if encoding == OF_DOUBLES:
        begin, _ = last_of(data, entry, end, _VALUE_NUMBER)
        value.kind, value.number = NUMBER, (double(data, begin) if begin >= 0 else 0.0)
        return
    begin, stop = last_of(data, entry, end, _VALUE_TEXT)
    if encoding == OF_TEXTS:
        value.kind, value.begin, value.end = TEXT, max(begin, 0), max(stop, 0)
    else:
        value.kind, value.number, value.begin, value.end = _kind_of(data, begin, stop)


@inner
def _kind_of(data: bytes, at: int, end: int) -> tuple[int, float, int, int]:
    """Return the kind of a google.protobuf.Value, its number, and where its content begins and ends."""
    kind, number, begin, stop = NULL, 0.0, 0, 0
    while 0 <= at < end:
        tag, begin, at = following(data, at, end)
        stop = at
        if at < 0:
            return NULL, 0.0, 0, 0
        if tag == _NUMBER_VALUE:
            kind, number = NUMBER, double(data, begin)
        elif tag == _BOOL_VALUE:
            kind, number = TRUTH, float(varint(data, begin, stop)[0])
        elif tag == _STRING_VALUE:
            kind = TEXT
        elif tag == _STRUCT_VALUE:
            kind = STRUCT
        elif tag == _LIST_VALUE:
            kind = LIST
        else:
            kind = NULL
    return kind, number, begin, stop


@inner
def _compare(rules: Table, scratch: Table, index: int, data: bytes) -> int:
    """Return the verdict of a step about a value."""
    step = steps_of(rules)[index]
    value = values_of(scratch)[step.path]
    if step.does == IS_THERE:
        return TRUE if value.kind != ABSENT else FALSE
    if value.kind == ABSENT:
        return ERROR
    if step.does == IS_TRUE:
        return (TRUE if value.number != 0.0 else FALSE) if value.kind == TRUTH else ERROR
    if step.does == CONTAINS:
        return _contains(rules, scratch, index, data)
    if step.does == VERSES:
        return _versed(rules, scratch, index, data)
    if step.letters != AS_IT_IS:
        return _small(rules, scratch, index, data)
    return _equal(rules, scratch, index, data) if step.compare <= _UNEQUAL else _ordered(rules, scratch, index, data)


@inner
def _equal(rules: Table, scratch: Table, index: int, data: bytes) -> int:
    """Return the verdict of `==` or `!=`; a value of another type than the constant is not equal to it."""
    step = steps_of(rules)[index]
    value = values_of(scratch)[step.path]
    same = value.kind == step.kind
    if same and step.kind == TEXT:
        same = is_same(data, value.begin, value.end, u1(rules, Rules.text), step.first, step.last)
    elif same:
        same = value.number == step.number
    return TRUE if same == (step.compare == _EQUAL) else FALSE


@inner
def _ordered(rules: Table, scratch: Table, index: int, data: bytes) -> int:
    """Return the verdict of `<`, `<=`, `>` or `>=`; a value of another type than the constant is an error."""
    step = steps_of(rules)[index]
    value = values_of(scratch)[step.path]
    if value.kind != step.kind:
        return ERROR
    if step.kind == TEXT:
        order = _order(data, value.begin, value.end, u1(rules, Rules.text), step.first, step.last)
    else:
        order = (value.number > step.number) - np.int64(value.number < step.number)
        if np.isnan(value.number):
            return FALSE
    return _holds(step.compare, order)


@inner
def _holds(compare: int, order: int) -> int:
    """Return the verdict of any comparison of two values, of which the first is less (-), equal (0) or greater (+)."""
    if compare <= _UNEQUAL:
        return TRUE if (order == 0) == (compare == _EQUAL) else FALSE
    if compare in (_LESS, _LESS_OR_EQUAL):
        order = -order
    return TRUE if order > 0 or (order == 0 and compare not in (_LESS, _GREATER)) else FALSE


@inner
def _small(rules: Table, scratch: Table, index: int, data: bytes) -> int:
    """Return the verdict of a comparison of a text in small letters; a value of another type is an error."""
    step = steps_of(rules)[index]
    value, text = values_of(scratch)[step.path], u1(rules, Rules.text)
    if value.kind != TEXT:
        return ERROR
    at, first, order = value.begin, step.first, np.int64(0)
    while order == 0 and at < value.end and first < step.last:
        letter, at = _character(data, at, value.end)
        other, first = _character(text, first, step.last)
        order = _small_letter(rules, letter, step.letters == SMALL) - other
    if order == 0:
        order = (value.end - at) - (step.last - first)
    return _holds(step.compare, order)


@inner
def _character(data: bytes | np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Return the code point at an offset of a text in UTF-8, and where it ends."""
    byte = np.int64(data[at])
    size = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    if size == 1 or at + size > end:
        return byte, at + 1
    code = byte & (0x7F >> size)
    for index in range(at + 1, at + size):
        code = code << 6 | np.int64(data[index]) & 0x3F
    return code, at + size


@inner
def _small_letter(rules: Table, letter: int, beyond_ascii: bool) -> int:
    """Return the small letter of a code point, else the code point itself."""
    if letter < 0x80:
        return letter + 32 if 65 <= letter <= 90 else letter
    if not beyond_ascii:
        return letter
    letters, low = i4(rules, Rules.letter), np.int64(0)
    high = np.int64(len(letters))
    while low < high:
        middle = (low + high) // 2
        if letters[middle] < letter:
            low = middle + 1
        else:
            high = middle
    return np.int64(i4(rules, Rules.small)[low]) if low < len(letters) and letters[low] == letter else letter


@inner
def _versed(rules: Table, scratch: Table, index: int, data: bytes) -> int:
    """Return the verdict of a comparison of `semver_compare`; a value that is no version is an error."""
    step = steps_of(rules)[index]
    value = values_of(scratch)[step.path]
    if value.kind != TEXT or not is_version(data, value.begin, value.end):
        return ERROR
    order = version_order(data, value.begin, value.end, u1(rules, Rules.text), step.first, step.last)
    return _holds(step.compare, (order > step.number) - np.int64(order < step.number))


@inner
def _order(data: bytes, begin: int, end: int, text: np.ndarray, first: int, last: int) -> int:
    """Compare a text with a constant: the result is negative, 0 or positive as the text comes before, is equal or comes
    after. UTF-8 bytes are in the same order as the characters they encode.
    """  # noqa: D205
    for index in range(min(end - begin, last - first)):
        if data[begin + index] != text[first + index]:
            return np.int64(data[begin + index]) - np.int64(text[first + index])
    return (end - begin) - (last - first)


@inner
def _contains(rules: Table, scratch: Table, index: int, data: bytes) -> int:
    """Return the verdict of `in`: whether a list has a text among its values, or a struct among its keys."""
    step, text = steps_of(rules)[index], u1(rules, Rules.text)
    value = values_of(scratch)[step.path]
    kind, at, end = value.kind, value.begin, value.end
    if kind not in (LIST, STRUCT):
        return ERROR
    while 0 <= at < end:
        tag, begin, at = following(data, at, end)
        if at < 0 or tag != _ENTRY:
            continue
        if kind == STRUCT:
            begin, stop = last_of(data, begin, at, _KEY)
            begin, stop, of = max(begin, 0), max(stop, 0), TEXT
        else:
            of, _, begin, stop = _kind_of(data, begin, at)
        if of == TEXT and is_same(data, begin, stop, text, step.first, step.last):
            return TRUE
    return FALSE
