"""How a store keeps a person's record: the ids that lead to it, and the state."""

from collections.abc import Sequence
from struct import Struct

from offers.state.stores import Person

_SIZES = Struct("<II")
_USER = "u:"


def pack(ids: Sequence[Person], state: bytes) -> bytes:
    """Both as bytes, which may be followed by others."""
    names = "\0".join(ids).encode()
    return _SIZES.pack(len(names), len(state)) + names + state


def state_of(record: bytes, begin: int = 0) -> bytes:
    """The state in a record that begins at an offset."""
    names, state = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size + names
    return record[begin : begin + state]


def ids_of(record: bytes, begin: int = 0) -> list[Person]:
    """The ids in a record that begins at an offset, the user's first."""
    names, _ = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size
    return record[begin : begin + names].decode().split("\0")


def is_user(person: Person) -> bool:
    """Whether an id is a user's, and not a visitor's."""
    return person.startswith(_USER)
