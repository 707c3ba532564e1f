"""Exports: everything that the stores have of a person, in parts of a bounded size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from offers.errors import BusyError
from offers.model.visits import TRAITS, visits_in
from offers.server.limits import MAX_EXPORT_BYTES
from offers.state.person.counters import Counters
from offers.state.person.ids import user_of
from offers.state.stores import EventLog, LoggedDecision, LoggedEvent, Person
from offers.v1.event_pb2 import EVENT_KIND_REDEMPTION, EVENT_KIND_UNSPECIFIED, EventKind
from offers.v1.profile_service_pb2 import ExportProfileResponse, KeptTrigger
from offers.v1.state_pb2 import TriggerMark, UserState

PART_BYTES = 256 << 10
"""Size at which a part is sent. It is larger by one event or decision at most."""
_UNSIGNED = (1 << 64) - 1
_Kept = tuple[Person, EventKind.ValueType]


class Retention:
    """How much of the log is kept under each id of a person, and for how long."""

    def __init__(self, kept_s: Mapping[EventKind.ValueType, int]) -> None:
        """`kept_s` are the seconds that entries are kept, by kind; EVENT_KIND_UNSPECIFIED stands for decisions."""
        self._kept_s = kept_s
        self._found: dict[_Kept, tuple[int, int, int, int]] = {}

    def add(self, person: Person, kind: EventKind.ValueType, second: int, logged: int) -> None:
        """Count an entry of an instant that was logged at a second."""
        due = logged + self._kept_s[kind]
        count, first, last, latest_due = self._found.get((person, kind), (0, second, second, due))
        self._found[person, kind] = count + 1, min(first, second), max(last, second), max(latest_due, due)

    def tell(self, part: ExportProfileResponse) -> None:
        """Add the counts to a part of an export."""
        for (person, kind), (count, first, last, due) in sorted(self._found.items()):
            told = part.kept_logs.add(user=user_of(person), kind=kind, count=count)
            told.first_time.seconds, told.last_time.seconds, told.expire_time.seconds = first, last, due


def logged_parts(log: EventLog, ids: Sequence[Person], retention: Retention) -> Iterator[ExportProfileResponse]:
    """Yield the events of a person's ids, then the decisions, in parts, and count them."""
    part, size = ExportProfileResponse(), 0
    for page in log.pages_of(ids):
        for event in page:
            _add_event(part, event)
            retention.add(event.person, event.kind, event.second, event.received)
            size += len(event.body)
            if size >= PART_BYTES:
                yield part
                part, size = ExportProfileResponse(), 0
    for decisions in log.decision_pages_of(ids):
        for decision in decisions:
            _add_decision(part, decision)
            retention.add(decision.person, EVENT_KIND_UNSPECIFIED, decision.second, decision.second)
            size += len(decision.record)
            if size >= PART_BYTES:
                yield part
                part, size = ExportProfileResponse(), 0
    if part.ByteSize():
        yield part


def add_state(part: ExportProfileResponse, state: UserState, redeemed: Iterable[tuple[int, int]]) -> None:
    """Add a person's record, apart from the profile, and redemptions as the ledger keeps them: key and second."""
    part.assignments.extend(state.assignments)
    for key, kind, times in Counters(state.counters, state.times):
        count = part.counts.add(key=key & _UNSIGNED, kind=kind)
        for second in times:
            count.times.add(seconds=second)
    for visit in visits_in(state.visits):
        visited = part.visits.add(
            item=visit.item & _UNSIGNED,
            weight=visit.weight,
            place=visit.place,
            **dict(zip(TRAITS, visit.traits, strict=True)),
        )
        visited.local_time.seconds = visit.second
    part.triggers.extend(map(_kept, state.triggers))
    for key, second in redeemed:
        count = part.redemptions.add(key=key & _UNSIGNED, kind=EVENT_KIND_REDEMPTION)
        count.times.add(seconds=second)


def whole(parts: Iterable[ExportProfileResponse]) -> ExportProfileResponse:
    """Return the export that parts make up. Raises BusyError where it does not fit into a message."""
    export, size = ExportProfileResponse(), 0
    for part in parts:
        size += part.ByteSize()
        if size > MAX_EXPORT_BYTES:
            message = f"the export has more than {MAX_EXPORT_BYTES:,} bytes: call StreamExportProfile for it in parts"
            raise BusyError(message)
        export.MergeFrom(part)
    if not any(export.geohashes):
        export.ClearField("geohashes")
    return export


def _add_event(part: ExportProfileResponse, event: LoggedEvent) -> None:
    told = part.events.add()
    told.MergeFromString(event.body)
    told.user.CopyFrom(user_of(event.person))
    part.geohashes.append(event.geohash)


def _add_decision(part: ExportProfileResponse, decision: LoggedDecision) -> None:
    kept = part.decisions.add(decision_id=decision.decision_id, user=user_of(decision.person))
    kept.MergeFromString(decision.record)  # the same fields by the same numbers
    kept.decision_time.seconds = decision.second


def _kept(mark: TriggerMark) -> KeptTrigger:
    """Return the exported form of a trigger's mark."""
    told = KeptTrigger(catalog=mark.catalog, trigger_id=mark.trigger_id, sent=mark.sent)
    told.begin_time.seconds = mark.begin
    if mark.retry:
        told.retry_time.seconds = mark.retry
    if mark.last_sent:
        told.last_sent_time.seconds = mark.last_sent
    return told
