"""Who a request is for, and what is known of that person: one read of the state store, and only where it matters."""

from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from offers.decision.engine import Engine
from offers.decision.person import Counted, Person, merged
from offers.decision.segments import Facts
from offers.errors import StoreUnavailableError
from offers.server.convert import may_use_context
from offers.state.consent import Purposes, agrees
from offers.state.person import draw_of, person_of
from offers.state.stores import StateStore
from offers.state.view import life_cycle, profile_of
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, User
from offers.v1.event_pb2 import EVENT_KIND_IMPRESSION
from offers.v1.offer_service_pb2 import Degradation, GetOffersRequest, GetOffersResponse, SeenOffer
from offers.v1.profile_pb2 import Profile
from offers.v1.state_pb2 import UserState, UserStateHead

BLIND = GetOffersResponse(
    degraded=[
        Degradation(
            dependency="state",
            rule="frequency caps and cool-downs of single offers are not checked, contact policies with caps or a "
            "cool-down are taken to be at them, profiles are taken to be empty, variants are drawn anew",
        )
    ]
).SerializeToString()
"""What an answer says when the state of the person could not be read."""


_NOTHING_ASKED, _NOTHING_KNOWN = GetOffersRequest(), UserStateHead()
_OF_HISTORY = frozenset({"affinities", "basket", "journey_phase", "user"})
"""What of a profile is worked out of the whole record."""


class Met(NamedTuple):
    """A person as a decision meets them."""

    person: Person
    name: str
    """As the stores know the person; "" where nothing may be kept of what is decided."""
    known: frozenset[tuple[str, str]]
    """The experiments and variants that are kept already."""


class People:
    """Reads what is known of persons."""

    def __init__(self, state: StateStore | None, default_consent: Purposes) -> None:
        """Without a store, nothing is known of anybody."""
        self._state = state
        self._default = default_consent

    def meet(self, user: User, engine: Engine, request: bytes | GetOffersRequest, second: int) -> Met:
        """The person of a request, as an engine asks about them at an instant."""
        name = person_of(user)
        record, state, blind = b"", _NOTHING_KNOWN, False
        may_keep = may_read = bool(name) and not (
            user.HasField("consent") and CONSENT_PURPOSE_PROFILING not in user.consent.purposes
        )
        if may_read and self._state is not None:
            try:
                record = self._state.read(name)
                state = UserStateHead.FromString(record)
            except StoreUnavailableError:
                blind = True
            may_keep = agrees(CONSENT_PURPOSE_PROFILING, user, state.profile.consents, self._default)
            if not may_keep:
                state = _NOTHING_KNOWN
        seen = request.seen if isinstance(request, GetOffersRequest) else ()
        counters, times = state.counters, state.times
        if seen:
            counters, times = merged(counters, times, _counted(engine, seen))
        shown = tuple((one.experiment_id, one.variant_id) for one in state.assignments)

        def facts() -> Facts:
            told = request
            if isinstance(told, bytes):
                told = GetOffersRequest.FromString(told) if engine.segments.asks_request else _NOTHING_ASKED
            context = told.context
            if not may_use_context(user):
                context.ClearField("location")
                context.ClearField("session")
            wanted = engine.segments.worked_out
            if not may_keep:
                known = Profile(user=user)
            elif wanted.isdisjoint(_OF_HISTORY):
                known = state.profile if record else Profile()
                known.life_cycle = life_cycle(known, second)
            else:
                known = profile_of(UserState.FromString(record), second, user, wanted)
            return Facts(user, context.session, context, known, second)

        draw = state.draw or draw_of(name)
        person = Person(draw, counters, times, shown, facts, blind)
        return Met(person, name if may_keep and not blind else "", frozenset(shown))


def _counted(engine: Engine, seen: Sequence[SeenOffer]) -> list[Counted]:
    """What caps count of the offers a caller says the person has met."""
    counted = []
    for one in seen:
        facts = engine.directory.of(one.offer_id, one.placement)
        kind = one.kind or EVENT_KIND_IMPRESSION
        seconds = tuple(sorted(when.seconds for when in one.times))
        counted += [Counted(spec.key, kind, seconds) for spec in (facts.counters if facts else ()) if spec.kind == kind]
    return counted


def assign(state: UserState, exposures: Sequence[tuple[str, str]], second: int) -> bool:
    """Keep the variants that a person was first exposed to. False: all were kept before."""
    known = {one.experiment_id for one in state.assignments}
    new = [(experiment, variant) for experiment, variant in exposures if experiment not in known]
    for experiment, variant in new:
        state.assignments.add(experiment_id=experiment, variant_id=variant, exposure_time=Timestamp(seconds=second))
    return bool(new)
