"""A person's id as the stores know it, from and to the message User."""

from functools import lru_cache

from offers.model.keys import key_of
from offers.state.stores import Person
from offers.v1.context_pb2 import User

NOBODY: Person = ""


def person_of(user: User) -> Person:
    """The id of a person; "" for nobody."""
    if user.user_id:
        return f"u:{user.user_id}"
    return f"a:{user.anonymous_id}" if user.anonymous_id else NOBODY


@lru_cache(4096)
def draw_of(person: Person) -> int:
    """The number by which the variants of somebody known by an id alone are drawn; 0 for nobody."""
    return key_of("person", "", person) if person else 0


def user_of(person: Person) -> User:
    """The person an id is of."""
    if person.startswith("u:"):
        return User(user_id=person[2:])
    return User(anonymous_id=person[2:]) if person else User()
