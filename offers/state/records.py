"""The stored form of a person's record: the ids that lead to it, and the state."""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

import orjson

from offers.state.person.ids import is_user
from offers.state.stores import Merge, Person

_SIZES = Struct("<II")


def pack(ids: Sequence[Person], state: bytes) -> bytes:
    """Return a record; other bytes may follow it."""
    names = orjson.dumps(list(ids))
    return _SIZES.pack(len(names), len(state)) + names + state


def with_state(record: bytes, begin: int, state: bytes) -> bytes:
    """Return the record that begins at an offset, with another state."""
    names, _ = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size
    return _SIZES.pack(names, len(state)) + record[begin : begin + names] + state


def state_of(record: bytes, begin: int = 0) -> bytes:
    """Return the state in the record that begins at an offset."""
    names, state = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size + names
    return record[begin : begin + state]


def ids_of(record: bytes, begin: int = 0) -> list[Person]:
    """Return the ids in the record that begins at an offset, the user's first."""
    names, _ = _SIZES.unpack_from(record, begin)
    begin += _SIZES.size
    ids: list[Person] = orjson.loads(record[begin : begin + names])
    return ids


class Owned(NamedTuple):
    """A state with the ids that lead to it."""

    ids: list[Person]
    """Empty: there is no record."""
    state: bytes


def link(user: Person, ours: Owned, visitor: Person, theirs: Owned, merge: Merge) -> tuple[Owned, Owned]:
    """Return what StateStore.link makes of a user's record and of the record that the visitor's id leads to.

    The second record has no ids where it is to be removed.
    """
    state, rest = ours.state, Owned([], b"")
    if theirs.ids and is_user(theirs.ids[0]):  # another user's: only the id moves
        rest = Owned([one for one in theirs.ids if one != visitor], theirs.state)
    elif theirs.state:
        state = merge(state, theirs.state)
    return Owned([*(ours.ids or [user]), visitor], state), rest
