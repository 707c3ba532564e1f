"""JSON that others wrote, read strictly: first as values, then as messages and Structs.

Whatever cannot be read raises ValueError with the reason. The mapping is that of protobuf
(https://protobuf.dev/programming-guides/json/), apart from this:

- A null is a field that is not there, also where a value was set before.
- Instants are read by RFC 3339 exactly.
- Doubled names, numbers that would be changed, and values nested beyond MAX_LEVELS are refused.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from offers.model import rfc3339

MAX_LEVELS = 32
"""Most levels of lists and objects. A level of a Struct is three of messages, of which gRPC decodes at most 100."""
_TIMESTAMP, _STRUCT = Timestamp.DESCRIPTOR.full_name, Struct.DESCRIPTOR.full_name
_DURATION = Duration.DESCRIPTOR.full_name
_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)
_SPAN = re.compile(r"-?\d{1,12}(\.\d{1,9})?s", re.ASCII)
_SHOWN = 60
"""Characters of a bad value that are shown."""


def read_json(data: bytes) -> object:
    """Return the value of a JSON text in UTF-8, with or without a byte order mark. Raises ValueError."""
    too_deep = f"is nested too deeply: write at most {MAX_LEVELS} levels of lists and objects"
    try:
        text = data.decode("utf-8-sig")
        orjson.loads(text)  # refuses NaN, numbers beyond a double, and halves of surrogate pairs, which json takes
        value: object = json.loads(text, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte 0x{data[error.start]:02X} at byte {error.start + 1} of it"
        raise ValueError(message) from None
    except orjson.JSONDecodeError as error:
        at = f"line {error.lineno}, character {error.colno}" if error.lineno > 1 else f"character {error.colno}"
        reason = too_deep if "depth limit" in error.msg else f"is not JSON: {error.msg} ({at})"
        raise ValueError(reason) from None
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [value]
    for _ in range(MAX_LEVELS):
        level = [part for whole in level for part in _parts(whole)]
    if any(isinstance(part, dict | list) for part in level):
        raise ValueError(too_deep)
    return value


def fill(message: Message, value: object, name: str) -> None:
    """Set the fields of a message that an object has. Raises ValueError; `name` is that of the object in reasons."""
    try:
        ParseDict(_readable(value, message.DESCRIPTOR, name), message)  # type: ignore[arg-type]
    except ParseError as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from None


def struct_of(value: Mapping[str, Any], name: str) -> Struct:
    """Return an object as a Struct. Raises ValueError; `name` is that of the object in reasons."""
    _check_numbers(value, name)
    made = Struct()
    made.update(dict(value))
    return made


def instant_of(value: object, name: str) -> Timestamp:
    """Return the instant of an RFC 3339 text. Raises ValueError; `name` is that of the value in reasons."""
    if not isinstance(value, str):
        raise unfit(name, value, f"is no instant: write a text such as {rfc3339.EXAMPLE}")
    try:
        seconds, nanos = rfc3339.seconds_of(value)
    except rfc3339.NotAnInstantError as error:
        reason = f": {error}" if str(error) else ""
        message = f"{name}: '{_cut(value)}' is no instant{reason}: write one such as {rfc3339.EXAMPLE}"
        raise ValueError(message) from None
    return Timestamp(seconds=seconds, nanos=nanos)


def unfit(name: str, value: object, reason: str) -> ValueError:
    """Return the error of a value that cannot be used; `name` is its path in the JSON."""
    return ValueError(f"{name}: {shown(value)} {reason}")


def shown(value: object) -> str:
    """Return a value as errors show it: as JSON, cut if it is long."""
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        message = f"'{_cut(twice)}' is written twice in one object: remove one of them"
        raise ValueError(message)
    return made


def _parts(value: object) -> list[Any]:
    """Return the parts of a list or an object; none of any other value."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _readable(value: object, kind: Descriptor, name: str) -> dict[str, Any]:
    """Return an object without its nulls, with instants as protobuf reads them. Raises ValueError."""
    if not isinstance(value, dict):
        raise unfit(name, value, f"is no object: write the message {kind.name} in JSON")
    fields = {field.json_name: field for field in kind.fields} | dict(kind.fields_by_name)
    return {
        key: part if (field := fields.get(key)) is None else _readable_field(part, field, f"{name}.{key}")
        for key, part in value.items()
        if part is not None
    }


def _readable_field(value: object, field: FieldDescriptor, name: str) -> object:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return value
    if not isinstance(field.default_value, list):
        return _readable_value(value, field, name)
    if not isinstance(value, list):
        raise unfit(name, value, "is no list")
    return [_readable_value(one, field, f"{name}[{index}]") for index, one in enumerate(value)]


def _readable_value(value: object, field: FieldDescriptor, name: str) -> object:
    kind = field.message_type
    if kind is None:
        _check_scalar(value, field, name)
    elif kind.full_name == _TIMESTAMP:
        return instant_of(value, name).ToJsonString()
    elif kind.full_name == _STRUCT:
        _check_numbers(value, name)
    elif kind.full_name == _DURATION:
        if not (isinstance(value, str) and _SPAN.fullmatch(value)):
            raise unfit(name, value, "is no duration: write seconds with an s, such as 900s")
    elif kind.file.package != _TIMESTAMP.rpartition(".")[0]:
        return _readable(value, kind, name)
    return value


def _check_scalar(value: object, field: FieldDescriptor, name: str) -> None:
    """Check what protobuf would convert: booleans as numbers, and texts that only Python reads as numbers."""
    if field.cpp_type in (FieldDescriptor.CPPTYPE_BOOL, FieldDescriptor.CPPTYPE_STRING):
        return
    if isinstance(value, bool):
        raise unfit(name, value, "is no number")
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        if not isinstance(value, str | int):
            raise unfit(name, value, "is no name of a value")
    elif isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise unfit(name, value, "is no number")


def _check_numbers(value: object, name: str) -> None:
    """Check that whole numbers in a value are kept as they are in a double, a Struct's number. Raises ValueError."""
    if isinstance(value, int) and int(float(value)) != value:
        raise unfit(name, value, "is a number that would be changed: write it as a text")
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in named:
        _check_numbers(part, f"{name}.{key}" if isinstance(value, dict) else f"{name}[{key}]")
