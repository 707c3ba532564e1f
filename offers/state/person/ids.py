"""Converts the message User to and from the ids that stores use."""

from functools import lru_cache

from offers.model.keys import key_of
from offers.state.stores import Person
from offers.v1.context_pb2 import User

NOBODY: Person = ""
_USER, _VISITOR = "u:", "a:"


def person_of(user: User) -> Person:
    """Return the id of a person; NOBODY for a User without ids."""
    if user.user_id:
        return _USER + user.user_id
    return _VISITOR + user.anonymous_id if user.anonymous_id else NOBODY


def is_user(person: Person) -> bool:
    """Return whether an id is that of a user, not of a visitor."""
    return person.startswith(_USER)


def is_person(text: str) -> bool:
    """Return whether a text has the form of an id."""
    return text.startswith((_USER, _VISITOR))


@lru_cache(4096)
def draw_of(person: Person) -> int:
    """Return the number by which variants are drawn for a person without a record; 0 for NOBODY."""
    return key_of("person", "", person) if person else 0


def user_of(person: Person) -> User:
    """Return the User of an id."""
    if is_user(person):
        return User(user_id=person[2:])
    return User(anonymous_id=person[2:]) if person else User()
