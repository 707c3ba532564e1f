"""A person's id as the stores know it, from and to the message User."""

from offers.state.stores import Person
from offers.v1.context_pb2 import User

NOBODY: Person = ""


def person_of(user: User) -> Person:
    """The id of a person; "" for nobody."""
    if user.user_id:
        return f"u:{user.user_id}"
    return f"a:{user.anonymous_id}" if user.anonymous_id else NOBODY


def user_of(person: Person) -> User:
    """The person an id is of."""
    if person.startswith("u:"):
        return User(user_id=person[2:])
    return User(anonymous_id=person[2:]) if person else User()
