"""ProfileService: reads, updates, erases, exports and links persons' profiles."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from google.protobuf.struct_pb2 import Struct

from offers.errors import BusyError, ConflictError, FieldViolation, InvalidRequestError, NotFoundError
from offers.model.attributes import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES
from offers.model.events import KINDS
from offers.model.instants import CLOCK_SKEW_S, DAY_S, set_instant
from offers.server.checks import Refuse, check_attributes, check_instant
from offers.server.convert import parse
from offers.server.events.event_rules import check_text, check_user
from offers.server.exports import Retention, add_state, logged_parts, whole
from offers.server.limits import (
    MAX_CONSENTS,
    MAX_ID,
    MAX_LINKS,
    MAX_PATHS,
    MAX_PERSON_ID,
    MAX_REQUEST_BYTES,
    MAX_VISITORS,
)
from offers.server.recorder import WAIT_S
from offers.state.ledger import Ledger
from offers.state.person.consent import Purposes, agreed, latest
from offers.state.person.ids import NOBODY, is_user, person_of, user_of
from offers.state.person.merge import linked, with_draw
from offers.state.person.view import profile_of
from offers.state.stores import EventLog, Person, StateStore
from offers.v1.context_pb2 import CONSENT_PURPOSE_PROFILING, ConsentPurpose, User
from offers.v1.event_pb2 import EVENT_KIND_UNSPECIFIED
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    DeleteProfileResponse,
    ExportProfileRequest,
    ExportProfileResponse,
    GetProfileRequest,
    GetProfileResponse,
    LinkIdentitiesRequest,
    LinkIdentitiesResponse,
    StreamExportProfileRequest,
    StreamExportProfileResponse,
    UpdateProfileRequest,
    UpdateProfileResponse,
)
from offers.v1.state_pb2 import UserState

OTHERS_S = 2 * WAIT_S
"""Seconds after which other processes have logged what they decided."""
SOON_S = 2
"""Seconds after a link within which another one waits for them."""
MOST_EXPORTS = 4
"""Streamed exports of a worker at once, each of which may take some 16 MiB."""
_UNKNOWN = "nothing is known of this person"
_STILL_AGREED = (
    "erase_log: the person has not refused profiling, so the log would fill again: send that decision among the"
    " consents, or erase the person with DeleteProfile"
)
_NO_CONSENT = "the person has not agreed to profiling: send that decision among the consents first"


class ProfileService:
    """ProfileService with requests and responses as encoded messages."""

    def __init__(
        self,
        state: StateStore,
        log: EventLog,
        ledger: Ledger,
        *,
        clock: Callable[[], float],
        default_consent: Purposes,
        retention_days: Mapping[str, int],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """`settle` writes what this process has decided and not logged yet; it may raise StoreUnavailableError."""
        self._state, self._log, self._ledger = state, log, ledger
        self._clock, self._default, self._settle = clock, default_consent, settle
        kinds = {**KINDS, "decision": EVENT_KIND_UNSPECIFIED}
        self._kept_s = {kind: retention_days[name] * DAY_S for name, kind in kinds.items()}
        self._exports = threading.Semaphore(MOST_EXPORTS)
        self._tombstone_s = retention_days["tombstone"] * DAY_S

    def get_profile(self, data: bytes) -> bytes:
        """Return the encoded response to a GetProfileRequest.

        Raises InvalidRequestError, NotFoundError, StoreUnavailableError.
        """
        person = _person(parse(GetProfileRequest, data, MAX_REQUEST_BYTES).user)
        return GetProfileResponse(profile=self._profile(person)).SerializeToString()

    def update_profile(self, data: bytes) -> bytes:
        """Return the encoded response to an UpdateProfileRequest.

        Raises InvalidRequestError, ConflictError without consent to profiling (or with it, to erase the log),
        StoreUnavailableError.
        """
        request = parse(UpdateProfileRequest, data, MAX_REQUEST_BYTES)
        request.profile.DiscardUnknownFields()  # they would be kept
        person = _person(request.user)
        now = self._clock()
        _check_update(request, now)
        self._state.change([(person, partial(self._updated, request, now))])
        response = UpdateProfileResponse(profile=self._profile(person))
        if request.erase_log:
            # Tombstones first: what is on its way into the log is then erased by whoever writes it.
            ids = self._state.mark_erased(person, int(now), int(now) + self._tombstone_s)
            response.erased_event_count = self._log.erase(ids)
        return response.SerializeToString()

    def delete_profile(self, data: bytes) -> bytes:
        """Return the encoded response to a DeleteProfileRequest. Raises InvalidRequestError, StoreUnavailableError."""
        person = _person(parse(DeleteProfileRequest, data, MAX_REQUEST_BYTES).user)
        now = int(self._clock())
        # The log first: after a crash in between, the ids are still known when the call is repeated. Then once more, as
        # an event may have been logged before the tombstone was written.
        ids = self._state.ids(person) or [person]
        self._ledger.forget(ids)
        count = self._log.erase(ids)
        ids = sorted({*ids, *self._state.erase(person, now, now + self._tombstone_s)})
        count += self._log.erase(ids)
        response = DeleteProfileResponse(event_count=count)
        response.tombstone_expire_time.seconds = now + self._tombstone_s
        return response.SerializeToString()

    def export_profile(self, data: bytes) -> bytes:
        """Return the encoded response to an ExportProfileRequest.

        Raises InvalidRequestError, NotFoundError, StoreUnavailableError, and BusyError where it is too long.
        """
        person = _person(parse(ExportProfileRequest, data, MAX_REQUEST_BYTES).user)
        return whole(self._exported(person)).SerializeToString()

    def stream_export_profile(self, data: bytes) -> Iterator[bytes]:
        """Yield the encoded responses to a StreamExportProfileRequest.

        Raises InvalidRequestError, NotFoundError, StoreUnavailableError, and BusyError when too many are under way.
        """
        person = _person(parse(StreamExportProfileRequest, data, MAX_REQUEST_BYTES).user)
        if not self._exports.acquire(blocking=False):
            message = "as many exports are under way as this server makes at once: try again later"
            raise BusyError(message)
        try:
            for part in self._exported(person):
                yield StreamExportProfileResponse(part=part).SerializeToString()
        finally:
            self._exports.release()

    def _exported(self, person: Person) -> Iterator[ExportProfileResponse]:
        """Yield the parts of an export. Raises NotFoundError, before the first, where there is none."""
        ids = self._state.ids(person) or [person]
        record, retention, is_empty = self._state.read(person), Retention(self._kept_s), True
        for part in logged_parts(self._log, ids, retention):
            is_empty = False
            yield part
        redeemed = self._ledger.redeemed(ids)
        if is_empty and not (record or redeemed):
            raise NotFoundError(_UNKNOWN)
        state, last = UserState.FromString(record), ExportProfileResponse()
        add_state(last, state, redeemed)
        retention.tell(last)
        last.profile.CopyFrom(self._told(state, ids))
        yield last

    def link_identities(self, data: bytes) -> bytes:
        """Return the encoded response to a LinkIdentitiesRequest.

        Raises InvalidRequestError, ConflictError without consent to profiling, StoreUnavailableError.
        """
        request = parse(LinkIdentitiesRequest, data, MAX_REQUEST_BYTES)
        _check_link(request)
        who = User(user_id=request.user_id)
        if request.HasField("consent"):
            who.consent.CopyFrom(request.consent)
        user = person_of(who)
        visitors = [person_of(User(anonymous_id=anonymous_id)) for anonymous_id in request.anonymous_ids]
        _check_room(self._state.ids(user), visitors)
        stored = [
            consent
            for person in (user, *visitors)
            for consent in UserState.FromString(self._state.read(person)).profile.consents
        ]
        if CONSENT_PURPOSE_PROFILING not in agreed(who, latest(stored), self._default):
            raise ConflictError(_NO_CONSENT)
        self._settle()  # what was just decided about these ids
        self._await_others(user, visitors)
        second = int(self._clock())
        visitors.sort(key=lambda visitor: not self._state.read(visitor))  # those to whom something was shown come first
        for visitor in visitors:
            whose, is_stored = self._state.ids(visitor)[0], bool(self._state.read(visitor))
            own = NOBODY if is_stored or is_user(whose) else visitor
            self._state.link(user, visitor, partial(linked, user_id=user, visitor_id=visitor, second=second))
            self._state.change([(user, partial(with_draw, user_id=user, visitor_id=own, second=second))])
        state = UserState.FromString(self._state.read(user))
        return LinkIdentitiesResponse(profile=self._told(state, self._state.ids(user))).SerializeToString()

    def _await_others(self, user: Person, visitors: Sequence[Person]) -> None:
        """Let other processes log what they decided, where that may tell by whose number variants are drawn.

        This is so for several visitors, and for a visitor who comes soon after another.
        """
        is_open = len(visitors) > 1 and not all(self._state.read(visitor) for visitor in visitors)
        if not is_open:
            state = UserState.FromString(self._state.read(user))
            is_recent = self._clock() - state.linked_second < SOON_S
            is_open = not state.drawn_second and is_recent and any(user not in self._state.ids(one) for one in visitors)
        if is_open:
            time.sleep(OTHERS_S)

    def _profile(self, person: Person) -> Profile:
        record = self._state.read(person)
        if not record:
            raise NotFoundError(_UNKNOWN)
        return self._told(UserState.FromString(record), self._state.ids(person) or [person])

    def _told(self, state: UserState, ids: list[Person]) -> Profile:
        profile = profile_of(state, int(self._clock()), user_of(ids[0]))
        profile.anonymous_ids.extend(sorted(user_of(person).anonymous_id for person in ids[1:]))
        return profile

    def _updated(self, request: UpdateProfileRequest, now: float, record: bytes, erased: int) -> bytes | None:
        del erased  # an update made now is later than any erasure
        state = UserState.FromString(record)
        paths = list(request.update_mask.paths)
        names = [path.partition(".")[2] for path in paths if path.startswith("attributes.")]
        if not paths:
            names = list(request.profile.attributes.fields)
        if not paths or "consents" in paths:
            consents = [_dated(consent, now) for consent in request.profile.consents]
            kept = latest([*state.profile.consents, *consents])
            state.profile.ClearField("consents")
            state.profile.consents.extend(kept)
            if any(consent.purpose == CONSENT_PURPOSE_PROFILING and not consent.granted for consent in kept):
                state = UserState(profile=Profile(consents=kept))
        refuses = any(one.purpose == CONSENT_PURPOSE_PROFILING and not one.granted for one in state.profile.consents)
        if request.erase_log and not refuses:
            raise ConflictError(_STILL_AGREED)
        if "attributes" in paths or names:
            if CONSENT_PURPOSE_PROFILING not in agreed(request.user, state.profile.consents, self._default):
                raise ConflictError(_NO_CONSENT)
            if "attributes" in paths:
                state.profile.attributes.CopyFrom(request.profile.attributes)
            _set_attributes(state.profile.attributes, request.profile.attributes, names)
        return state.SerializeToString() or None


def _set_attributes(kept: Struct, given: Struct, names: Iterable[str]) -> None:
    for name in names:
        if name in given.fields:
            kept.fields[name].CopyFrom(given.fields[name])
        else:
            kept.fields.pop(name, None)
    if len(kept.fields) > MAX_ATTRIBUTES:
        reason = f"{len(kept.fields):,} entries with those that are kept: keep at most {MAX_ATTRIBUTES}"
        raise InvalidRequestError([FieldViolation("profile.attributes", reason)])
    if kept.ByteSize() > MAX_ATTRIBUTE_BYTES:
        reason = f"{kept.ByteSize():,} bytes with those that are kept: keep at most {MAX_ATTRIBUTE_BYTES:,}"
        raise InvalidRequestError([FieldViolation("profile.attributes", reason)])


def _dated(consent: Consent, now: float) -> Consent:
    if not consent.HasField("decision_time"):
        set_instant(consent.decision_time, now)
    return consent


def _person(user: User) -> Person:
    violations: list[FieldViolation] = []
    check_user("user", user, lambda field, reason: violations.append(FieldViolation(field, reason)))
    if violations:
        raise InvalidRequestError(violations)
    return person_of(user)


def _check_update(request: UpdateProfileRequest, now: float) -> None:
    violations: list[FieldViolation] = []

    def refuse(field: str, reason: str) -> None:
        violations.append(FieldViolation(field, reason))

    for number, path in enumerate(request.update_mask.paths[:MAX_PATHS]):
        if path not in {"attributes", "consents"} and not (path.startswith("attributes.") and len(path) > 11):
            refuse(f"update_mask.paths[{number}]", "cannot be changed: send attributes, attributes.<name> or consents")
    if len(request.update_mask.paths) > MAX_PATHS:
        refuse("update_mask.paths", f"{len(request.update_mask.paths):,} entries: send at most {MAX_PATHS}")
    check_attributes("profile.attributes", request.profile.attributes, refuse)
    _check_consents(request.profile.consents, now, refuse)
    if violations:
        raise InvalidRequestError(violations)


def _check_consents(consents: Sequence[Consent], now: float, refuse: Refuse) -> None:
    if len(consents) > MAX_CONSENTS:
        refuse("profile.consents", f"{len(consents):,} entries: send at most {MAX_CONSENTS}")
    for number, consent in enumerate(consents[:MAX_CONSENTS]):
        field = f"profile.consents[{number}]"
        if consent.purpose not in ConsentPurpose.values() or not consent.purpose:
            refuse(f"{field}.purpose", f"{consent.purpose} is no purpose: send one of ConsentPurpose")
        if consent.HasField("decision_time"):
            check_instant(f"{field}.decision_time", consent.decision_time, refuse)
            if consent.decision_time.seconds > now + CLOCK_SKEW_S:
                refuse(f"{field}.decision_time", "ahead of the server's clock by over 5 minutes: send when it was")
        check_text(consent.recorded_by, 0, MAX_ID, f"{field}.recorded_by", refuse)
        check_text(consent.source, 0, MAX_ID, f"{field}.source", refuse)


def _check_room(known: Sequence[Person], visitors: Sequence[Person]) -> None:
    """Check that a person, who has some ids, may have further visitors. Raises ConflictError."""
    count = len({*known[1:], *visitors})
    if count > MAX_VISITORS:
        message = f"the person would have {count:,} visitors: link at most {MAX_VISITORS:,} to one person"
        raise ConflictError(message)


def _check_link(request: LinkIdentitiesRequest) -> None:
    violations: list[FieldViolation] = []

    def refuse(field: str, reason: str) -> None:
        violations.append(FieldViolation(field, reason))

    check_text(request.user_id, 1, MAX_PERSON_ID, "user_id", refuse)
    count = len(request.anonymous_ids)
    if not 1 <= count <= MAX_LINKS:
        refuse("anonymous_ids", f"{count:,} ids: send 1 to {MAX_LINKS}")
    else:
        for number, anonymous_id in enumerate(request.anonymous_ids):
            check_text(anonymous_id, 1, MAX_PERSON_ID, f"anonymous_ids[{number}]", refuse)
    if violations:
        raise InvalidRequestError(violations)
