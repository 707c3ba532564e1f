"""How a store keeps a person's record: the ids that lead to it, and the state."""

from collections.abc import Sequence
from struct import Struct

import orjson

from offers.state.stores import Person

_SIZES = Struct("<II")
_USER = "u:"


def pack(ids: Sequence[Person], state: bytes) -> bytes:
    """Both as bytes, which may be followed by others."""
    names = orjson.dumps(list(ids))
    return _SIZES.pack(len(names), len(state)) + names + state


def with_state(record: bytes, begin: int, state: bytes) -> bytes:
    """A record that begins at an offset, with another state."""
    names, _ = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size
    return _SIZES.pack(names, len(state)) + record[begin : begin + names] + state


def state_of(record: bytes, begin: int = 0) -> bytes:
    """The state in a record that begins at an offset."""
    names, state = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size + names
    return record[begin : begin + state]


def ids_of(record: bytes, begin: int = 0) -> list[Person]:
    """The ids in a record that begins at an offset, the user's first."""
    names, _ = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size
    ids: list[Person] = orjson.loads(record[begin : begin + names])
    return ids


def is_user(person: Person) -> bool:
    """Whether an id is a user's, and not a visitor's."""
    return person.startswith(_USER)
