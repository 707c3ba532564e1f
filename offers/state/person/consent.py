"""Consent: decisions in the request take precedence over stored ones, stored ones over the server's default."""

from collections.abc import Iterable

from offers.model.instants import instant_of
from offers.v1.context_pb2 import ConsentPurpose, User
from offers.v1.profile_pb2 import Consent

Purposes = frozenset[ConsentPurpose.ValueType]
PURPOSES: dict[str, ConsentPurpose.ValueType] = {
    name.removeprefix("CONSENT_PURPOSE_").lower(): purpose for name, purpose in ConsentPurpose.items() if purpose
}
"""Purposes by their names in settings and commands."""


def agreed(user: User, stored: Iterable[Consent], default: Purposes) -> Purposes:
    """Return the purposes a person has agreed to; of stored decisions for one purpose, the last one counts."""
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
    """Return whether a person has agreed to one purpose; see `agreed`."""
    if user.HasField("consent"):
        return purpose in user.consent.purposes
    decided = [consent.granted for consent in stored if consent.purpose == purpose]
    return decided[-1] if decided else purpose in default


def latest(consents: Iterable[Consent]) -> list[Consent]:
    """Return the last decision on each purpose, ordered by purpose; of two at the same instant, the refusal."""
    last: dict[int, Consent] = {}
    for consent in consents:
        known = last.get(consent.purpose)
        if known is None or _rank(consent) > _rank(known):
            last[consent.purpose] = consent
    return [last[purpose] for purpose in sorted(last)]


def _rank(consent: Consent) -> tuple[int, int, bool, str, str]:
    return *instant_of(consent.decision_time), not consent.granted, consent.recorded_by, consent.source
