"""Reports the events of a file to a server: in batches, each line's fault on its own."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from grpc import RpcError, StatusCode, insecure_channel

from offers.client import CHANNEL_OPTIONS, OffersCallError
from offers.server.limits import MAX_BATCH, MAX_BATCH_BYTES, MAX_EVENT_BYTES
from offers.state.event_files import EventFile
from offers.state.tracked import Identified, PassedOver
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import EventResult, EventWarning, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import LinkIdentitiesRequest, UpdateProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub

if TYPE_CHECKING:
    from offers.state.event_files import Entry

BATCH = MAX_BATCH // 2
"""Events of a request, unless they reach MAX_BATCH_BYTES before."""
TIMEOUT_S = 60
_NO_SERVER = frozenset(
    {
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
        StatusCode.UNAVAILABLE,
        StatusCode.UNIMPLEMENTED,
    }
)
"""Ends of a call that say nothing about its content."""


class LineFault(NamedTuple):
    """A refused event or call."""

    number: int
    """Its number among the events and calls of the file."""
    text: str
    """Its line and the reason."""


class _Waiting(NamedTuple):
    """An event that is still to be reported."""

    number: int
    place: str
    event: Event


class EventImporter:
    """Reports the events, links and attributes of a file; `purposes` are those that its persons have agreed to."""

    def __init__(self, target: str, catalog: str, purposes: Sequence[Any]) -> None:
        """Open a channel; it connects with the first call. `catalog` is that of events that name none."""
        self._channel = insecure_channel(target, options=CHANNEL_OPTIONS)
        self._events, self._profiles = EventServiceStub(self._channel), ProfileServiceStub(self._channel)
        self._catalog, self._purposes = catalog, purposes
        self._batch: list[_Waiting] = []
        self._bytes = 0
        """Encoded size of the batch, in bytes."""
        self._faults: list[LineFault] = []
        self.counts: Counter[str] = Counter()

    @property
    def faults(self) -> list[str]:
        """Return the faults, each with its line, in the order of the file."""
        return [fault.text for fault in sorted(self._faults)]

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def run(self, lines: BinaryIO, progress: Callable[[int], object]) -> None:
        """Report all events. Raises OffersCallError when no server answers.

        `progress` is called with the number of bytes that are done.
        """
        file = EventFile(lines)
        for number, entry in enumerate(file.entries()):
            self._take(number, entry)
            if not self._batch:
                progress(file.done)
        self._report()
        progress(file.done)

    def _take(self, number: int, entry: "Entry") -> None:
        match entry.made:
            case None:
                self._refuse(number, entry.place, entry.fault)
            case PassedOver(kind):
                self.counts[f"passed over ({kind})"] += 1
            case Identified() as said:
                self._identify(number, entry.place, said)
            case event:
                event.catalog = event.catalog or self._catalog
                self._agree(event.user)
                self._append(_Waiting(number, entry.place, event))

    def _append(self, waiting: _Waiting) -> None:
        """Add an event to the batch, which is reported before it becomes too large and once it is full."""
        size = ReportEventsRequest(events=[waiting.event]).ByteSize()
        if waiting.event.ByteSize() > MAX_EVENT_BYTES:
            reason = f"has {size:,} bytes: write at most {MAX_EVENT_BYTES:,} an event"
            self._refuse(waiting.number, waiting.place, reason)
            return
        if self._bytes + size > MAX_BATCH_BYTES:
            self._report()
        self._batch.append(waiting)
        self._bytes += size
        if len(self._batch) == BATCH:
            self._report()

    def _report(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        self._send(batch)

    def _send(self, batch: Sequence[_Waiting]) -> None:
        """Report events. Where the server refuses the whole, each half is sent, to find the event that it is about."""
        if not batch:
            return
        try:
            request = ReportEventsRequest(events=[one.event for one in batch])
            results = self._events.ReportEvents(request, timeout=TIMEOUT_S).results
        except RpcError as error:
            told = _lines_fault(error)
            if len(batch) == 1:
                self._refuse(batch[0].number, batch[0].place, told)
                return
            half = len(batch) // 2
            self._send(batch[:half])
            self._send(batch[half:])
            return
        for index, (one, result) in enumerate(zip(batch, results, strict=True)):
            self._count(index, one, result)

    def _count(self, index: int, one: _Waiting, result: EventResult) -> None:
        if result.HasField("status"):
            self._refuse(one.number, one.place, result.status.message.replace(f"events[{index}].", ""))
            return
        self.counts["known before" if result.duplicate else "new"] += 1
        for warning in result.warnings:
            self.counts[f"with {EventWarning.Code.Name(warning.code).removeprefix('CODE_').lower()}"] += 1

    def _identify(self, number: int, place: str, said: Identified) -> None:
        self._agree(said.user)
        try:
            if said.visitors:
                link = LinkIdentitiesRequest(user_id=said.user.user_id, anonymous_ids=said.visitors)
                if said.user.HasField("consent"):
                    link.consent.CopyFrom(said.user.consent)
                self._profiles.LinkIdentities(link, timeout=TIMEOUT_S)
                self.counts["links"] += 1
            if said.attributes.fields or said.removed:
                update = UpdateProfileRequest(user=said.user, profile=Profile(attributes=said.attributes))
                if said.removed:
                    names = (*said.attributes.fields, *said.removed)
                    update.update_mask.paths.extend(f"attributes.{name}" for name in names)
                self._profiles.UpdateProfile(update, timeout=TIMEOUT_S)
                self.counts["profiles"] += 1
            elif not said.visitors:
                self.counts["without content"] += 1
        except RpcError as error:
            self._refuse(number, place, _lines_fault(error))

    def _agree(self, user: Any) -> None:  # noqa: ANN401 - User
        if self._purposes and user.WhichOneof("identity"):
            user.consent.purposes.extend(self._purposes)

    def _refuse(self, number: int, place: str, reason: str) -> None:
        self._faults.append(LineFault(number, f"{place}: {_printable(reason)}"))
        self.counts["refused"] += 1


def _printable(reason: str) -> str:
    """Return a reason on one line: it may quote control characters of the file, which terminals obey."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in reason)


def _lines_fault(error: Any) -> str:  # noqa: ANN401 - grpc.RpcError does not say that it is a Call
    """Return why a server refused the content of a call. Raises OffersCallError where it refused no content."""
    told = OffersCallError(error.code(), error.details() or "")
    if told.code in _NO_SERVER:
        raise told from None
    return told.message if told.code is StatusCode.INVALID_ARGUMENT else str(told)
