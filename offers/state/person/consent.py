"""What a person has agreed to: the request's word over what is kept, over what the server is set to."""

from collections.abc import Iterable

from offers.v1.context_pb2 import ConsentPurpose, User
from offers.v1.profile_pb2 import Consent

Purposes = frozenset[ConsentPurpose.ValueType]


def agreed(user: User, stored: Iterable[Consent], default: Purposes) -> Purposes:
    """The purposes that hold for a person. Stored decisions count each for its purpose."""
    if user.HasField("consent"):
        return frozenset(user.consent.purposes)
    purposes = set(default)
    for consent in stored:
        if consent.granted:
            purposes.add(consent.purpose)
        else:
            purposes.discard(consent.purpose)
    return frozenset(purposes)


def agrees(purpose: ConsentPurpose.ValueType, user: User, stored: Iterable[Consent], default: Purposes) -> bool:
    """Whether a person has agreed to one purpose; see `agreed`."""
    if user.HasField("consent"):
        return purpose in user.consent.purposes
    decided = [consent.granted for consent in stored if consent.purpose == purpose]
    return decided[-1] if decided else purpose in default


def latest(consents: Iterable[Consent]) -> list[Consent]:
    """Of each purpose the last decision; of two at the same instant the refusal. By purpose."""
    last: dict[int, Consent] = {}
    for consent in consents:
        known = last.get(consent.purpose)
        if known is None or _rank(consent) > _rank(known):
            last[consent.purpose] = consent
    return [last[purpose] for purpose in sorted(last)]


def _rank(consent: Consent) -> tuple[int, int, bool, str, str]:
    time = consent.decision_time
    return time.seconds, time.nanos, not consent.granted, consent.recorded_by, consent.source
