"""Persons of requests: read a person's record from the state store, once, and only if the person matters."""

from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from offers.decision.engine import Engine
from offers.decision.kernels.person.meet import AGREED, BLIND, COUNTED, HIDDEN, NAMED, TAUGHT
from offers.decision.person import Counted, Person, merged
from offers.decision.segments.evaluate import Facts
from offers.errors import StoreUnavailableError
from offers.server.convert import may_use_context
from offers.state.person.consent import Purposes, agreed, agrees
from offers.state.person.ids import NOBODY, draw_of, person_of
from offers.state.person.view import life_cycle, profile_of, turns_of
from offers.state.stores import Person as Name
from offers.state.stores import StateStore
from offers.v1.context_pb2 import CONSENT_PURPOSE_LEARNING, CONSENT_PURPOSE_PROFILING, ConsentPurpose, User
from offers.v1.event_pb2 import EVENT_KIND_IMPRESSION
from offers.v1.offer_service_pb2 import Degradation, GetOffersRequest, GetOffersResponse, SeenOffer
from offers.v1.profile_pb2 import Profile
from offers.v1.state_pb2 import DecisionRecord, UserState, UserStateHead

TOLD_BLIND = GetOffersResponse(
    degraded=[
        Degradation(
            dependency="state",
            rule="frequency caps and cool-downs of single offers are not checked, contact policies with caps or a "
            "cool-down are taken to be at them, profiles are taken to be empty, variants are drawn anew",
        )
    ]
).SerializeToString()
"""Encoded note of an answer for which the state of the person could not be read."""
TOLD_UNREAD = GetOffersResponse(
    degraded=[
        Degradation(
            dependency="budgets",
            rule="budgets are taken to have what was left when their use was last read, all of it where it never was; "
            "redemptions ask the ledger itself",
        )
    ]
).SerializeToString()
"""Encoded note of an answer for which the use of a budget could not be read."""


_PURPOSES = frozenset(ConsentPurpose.values())
"""Known purposes: a caller may name any number."""
_OF_HISTORY = frozenset({"affinities", "basket", "journey_phase", "user"})
"""Fields of a profile that are computed from the whole record."""


class Met(NamedTuple):
    """A person as the stores know them."""

    name: str
    """Name of the person in the stores; "" for nobody in particular."""
    draw: int
    """Number by which variants are drawn, unless the record has another."""
    record: bytes
    """The person's UserState, whether or not it may be used."""
    flags: int
    """NAMED and so on: see meet.py."""


class PersonReader:
    """Reads persons from the state store."""

    def __init__(self, state: StateStore | None, default_consent: Purposes) -> None:
        """Without a store, nothing is known of anybody. `default_consent` holds where nobody says."""
        self._state = state
        self._default = default_consent
        self._flags = AGREED if CONSENT_PURPOSE_PROFILING in default_consent else 0
        self._flags |= TAUGHT if CONSENT_PURPOSE_LEARNING in default_consent else 0

    def read(self, name: str, grants: int) -> Met:
        """Read a person. `grants` has a bit per purpose agreed to; -1: the request says nothing of consent."""
        flags, record = self._flags | (NAMED if name else 0), b""
        if self._state is not None and _may_read(name, grants):
            try:
                record = self._state.read(name)
            except StoreUnavailableError:
                flags |= BLIND
        return Met(name, draw_of(name), record, flags)

    def read_each(self, asked: Sequence[tuple[Name, int]]) -> list[Met]:
        """Read persons, each given as `read` takes them, in one round trip to the store."""
        state = self._state
        wanted = [name for name, grants in asked if state is not None and _may_read(name, grants)]
        if len(wanted) < 2 or state is None:
            return [self.read(name, grants) for name, grants in asked]
        unread = 0
        try:
            records = dict(zip(wanted, state.read_each(wanted), strict=True))
        except StoreUnavailableError:
            records, unread = {}, BLIND
        return [
            Met(
                name,
                draw_of(name),
                records.get(name, b"") if (is_read := _may_read(name, grants)) else b"",
                self._flags | (NAMED if name else 0) | (unread if is_read else 0),
            )
            for name, grants in asked
        ]

    def meet(self, engine: Engine, request: GetOffersRequest, second: int) -> tuple[Met, Person]:
        """Read the person of any request, as an engine asks about them at an instant."""
        user = request.context.user
        grants = (
            sum(1 << purpose for purpose in _PURPOSES.intersection(user.consent.purposes))
            if user.HasField("consent")
            else -1
        )
        met = self.read(person_of(user), grants)
        if request.seen:
            met = self._with_seen(met, engine, user, request.seen)
        if not may_use_context(user):
            met = met._replace(flags=met.flags | HIDDEN)
        encoded = request.SerializeToString()

        def facts() -> Facts:
            return self.facts(engine, met, request, second)

        return met, Person(met.draw, met.record, encoded, grants, met.flags, facts)

    def person_of(self, engine: Engine, met: Met, data: bytes, second: int) -> Person:
        """Return the person of a usual request that stands encoded in `data`, as an engine asks about them."""
        return Person(
            record=met.record, facts=lambda: self.facts(engine, met, GetOffersRequest.FromString(data), second)
        )

    def facts(self, engine: Engine, met: Met, request: GetOffersRequest, second: int) -> Facts:
        """Return what segments read that are left to CEL. Clears fields of the request that consent hides."""
        context = request.context
        if met.flags & HIDDEN:
            context.ClearField("location")
            context.ClearField("session")
        wanted = engine.meeting.segments.worked_out
        if not self.may_keep(met, context.user):
            return Facts(context.user, context.session, context, Profile(user=context.user), second)
        state = UserState()
        if wanted.isdisjoint(_OF_HISTORY):
            known = UserStateHead.FromString(met.record).profile
            known.life_cycle = life_cycle(known, second)
        else:
            state = UserState.FromString(met.record)
            known = profile_of(state, second, context.user, wanted)
        return Facts(context.user, context.session, context, known, second, turns_of(known, state, second, wanted))

    def known(self, met: Met, user: User) -> UserState:
        """Return the part of a person's record that may be used."""
        state = UserState.FromString(met.record)
        if self.may_keep(met, user):
            return state
        if met.flags & COUNTED:
            return UserState(counters=state.counters, times=state.times)
        return UserState()

    def may_keep(self, met: Met, user: User) -> bool:
        """Return whether data may be kept of a person, the same as kernels/person/meet.py does."""
        if not met.flags & NAMED or met.flags & BLIND:
            return False
        consents = UserStateHead.FromString(met.record).profile.consents
        return agrees(CONSENT_PURPOSE_PROFILING, user, consents, self._default)

    def purposes(self, met: Met, user: User) -> Purposes:
        """Return the purposes a person has agreed to; none for nobody in particular."""
        if not met.flags & NAMED:
            return frozenset()
        return agreed(user, UserStateHead.FromString(met.record).profile.consents, self._default)

    def _with_seen(self, met: Met, engine: Engine, user: User, seen: Sequence[SeenOffer]) -> Met:
        """Return a person with the offers that the caller says they have seen: caps count these without consent too."""
        state = UserState.FromString(met.record)
        if not self.may_keep(met, user):
            state = UserState(profile=Profile(consents=state.profile.consents))
        state.counters, state.times = merged(state.counters, state.times, _counted(engine, seen))
        return met._replace(record=state.SerializeToString(), flags=met.flags | COUNTED)


def _may_read(name: Name, grants: int) -> bool:
    """Return whether the record of a person may be read; `grants` as for PersonReader.read."""
    return name != NOBODY and (grants < 0 or grants >> CONSENT_PURPOSE_PROFILING & 1 != 0)


def _counted(engine: Engine, seen: Sequence[SeenOffer]) -> list[Counted]:
    """Return the instants that caps count of the offers that a caller says the person has seen."""
    counted = []
    for one in seen:
        facts = engine.directory.of(one.offer_id, one.placement)
        kind = one.kind or EVENT_KIND_IMPRESSION
        seconds = tuple(sorted(when.seconds for when in one.times))
        counted += [Counted(spec.key, kind, seconds) for spec in (facts.counters if facts else ()) if spec.kind == kind]
    return counted


def assign(state: UserState, person: Name, decided: DecisionRecord, second: int) -> bool:
    """Keep the variants that a person was first exposed to, and what they are drawn by. Returns whether that is new.

    Decisions may arrive out of order: the earlier exposure counts, as in reports.
    """
    before = state.SerializeToString()
    if decided.exposures or decided.holdouts:
        state.draw = state.draw or draw_of(person)
        state.drawn_second = min(state.drawn_second or second, second)
    known = {one.experiment_id: one for one in state.assignments}
    for one in decided.exposures:
        was = known.get(one.experiment_id)
        if was is None:
            was = state.assignments.add(experiment_id=one.experiment_id)
        elif was.exposure_time.seconds <= second:
            continue
        was.variant_id = one.variant_id
        was.exposure_time.CopyFrom(Timestamp(seconds=second))
    return state.SerializeToString() != before
