"""Every event has one effect, over a real server and SQLite."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status

from offers.errors import StoreUnavailableError
from offers.model.keys import key_of
from offers.server.events.intake import Intake
from offers.server.events.live_offers import LiveOffers
from offers.server.events.service import MOST_STREAMS
from offers.state.opening import Stores
from offers.state.stores import LoggedDecision, LoggedEvent, StateStore
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event, EventKind, Order, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult, EventWarning, ReportEventsRequest, StreamEventsRequest
from offers.v1.profile_service_pb2 import DeleteProfileRequest
from offers.v1.state_pb2 import DecisionRecord
from tests.server.persons import NOW, Server, event, server

LUNCH = key_of("offer", "corner", "lunch")
SPRING = key_of("campaign", "corner", "spring")
CLICK, IMPRESSION = EventKind.EVENT_KIND_CLICK, EventKind.EVENT_KIND_IMPRESSION
RESERVE, CONFIRM, RELEASE = (
    RedemptionEvent.PHASE_RESERVE,
    RedemptionEvent.PHASE_CONFIRM,
    RedemptionEvent.PHASE_RELEASE,
)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Server]:
    """A server with empty stores."""
    with server(tmp_path) as running:
        yield running


def warnings(result: EventResult) -> list[EventWarning.Code.ValueType]:
    """Return the codes of an event's warnings."""
    return [warning.code for warning in result.warnings]


def fields(result: EventResult) -> list[str]:
    """Return the fields that an event was refused for."""
    assert code_pb2.INVALID_ARGUMENT == result.status.code
    bad = error_details_pb2.BadRequest()
    assert result.status.details[0].Unpack(bad)
    return [violation.field for violation in bad.field_violations]


def test_events_count_for_the_offer_and_its_campaign(at: Server) -> None:
    """An impression counts for the offer's cap and a click for its campaign's, for its person only."""
    results = at.report(
        event("i1", at=NOW - 10, offer_id="lunch", impression={}),
        event("c1", at=NOW - 5, offer_id="lunch", click={}),
        event("i2", offer_id="ride", impression={}),
    )
    assert [EventResult()] * 3 == results
    assert {(LUNCH, IMPRESSION): [NOW - 10], (SPRING, CLICK): [NOW - 5]} == at.counted("u:alice")
    assert {} == at.counted("u:bob")


def test_an_event_has_one_effect_however_often_sent(at: Server) -> None:
    """Repeated in a batch, in the next one, and in another order, an event counts once and is reported as duplicate."""
    one, other = event("e1", offer_id="lunch", click={}), event("e2", at=NOW + 1, offer_id="lunch", click={})
    assert [False, True] == [result.duplicate for result in at.report(one, one)]
    assert [False, True, True] == [result.duplicate for result in at.report(other, one, other)]
    assert [NOW, NOW + 1] == at.counted("u:alice")[SPRING, CLICK]
    assert 2 == len(at.served.stores.events.read(0, 10))


def test_late_events_take_their_place(at: Server) -> None:
    """Events in any order leave the same state."""
    happened = [event(f"e{second}", at=NOW - second, offer_id="lunch", click={}) for second in (3, 9, 1)]
    for one in happened:
        at.report(one)
    assert [NOW - 3, NOW - 1] == at.counted("u:alice")[SPRING, CLICK]
    state = at.state("u:alice")
    assert [NOW - 9, NOW - 3, NOW - 1] == [recent.event_time.seconds for recent in state.recent]
    assert (NOW - 9, NOW - 1) == (state.profile.first_seen_time.seconds, state.profile.last_seen_time.seconds)


def test_clocks_ahead_are_set_right(at: Server) -> None:
    """A time over 5 minutes ahead becomes now, with a warning; one less ahead is kept; a missing one is now."""
    at.clock[0] = NOW + 0.25
    results = at.report(
        event("far", at=NOW + 301, offer_id="lunch", click={}),
        event("near", at=NOW + 299, offer_id="lunch", click={}),
        event("none", at=None, offer_id="lunch", click={}),
    )
    assert [[EventWarning.CODE_FUTURE_TIME], [], []] == [warnings(result) for result in results]
    times = {event.event_id: event.second for _, event in at.served.stores.events.read(0, 10)}
    assert {"far": NOW, "near": NOW + 299, "none": NOW} == times
    assert 250_000_000 == at.state("u:alice").recent[0].event_time.nanos


def test_a_bad_event_fails_alone(at: Server) -> None:
    """An invalid event is refused with the paths of all its faults; the others are taken in."""
    bad: list[tuple[Event, list[str]]] = [
        (event(""), ["event_id", "kind"]),
        (event("x" * 129, click={}, offer_id="lunch"), ["event_id"]),
        (event("n\0", click={}, offer_id="lunch"), ["event_id"]),
        (event("t", at=-1, click={}, offer_id="lunch"), ["event_time"]),
        (Event(event_id="u", user=User(), order=Order()), ["user.user_id"]),
        (Event(event_id="a", user=User(anonymous_id="x" * 257), order=Order()), ["user.anonymous_id"]),
        (Event(event_id="0", user=User(user_id="a\0"), session_id="\0", order=Order()), ["user.user_id", "session_id"]),
        (event("k", catalog="nowhere", click={}, offer_id="lunch"), ["catalog"]),
        (event("o", click={}), ["offer_id"]),
        (event("l", location={"latitude": 91, "longitude": -181}, checkout_started={}),
         ["location.latitude", "location.longitude"]),
        (event("v", view={}), ["view.item"]),
        (event("b", add_to_cart={}), ["add_to_cart.items"]),
        (event("q", remove_from_cart={"items": [{}, {"quantity": 0}]}), ["remove_from_cart.items[1].quantity"]),
        (event("m", order={"items": [{"price": {"currency_code": "e"}}], "total": {"currency_code": "E", "units": -1}}),
         ["order.items[0].price.currency_code", "order.total.currency_code", "order.total.units"]),
        (event("r", offer_id="lunch", redemption={"hold": {"seconds": 0}, "units": 0}),
         ["redemption.phase", "redemption.redemption_id", "redemption.units", "redemption.hold"]),
        (event("z", custom={"name": "x" * 65}), ["custom.name"]),
        (event("d", dismissal={"reason": "x" * 65}, offer_id="lunch"), ["dismissal.reason"]),
        (event("w", impression={"in_view": {"seconds": -1}}, offer_id="lunch"), ["impression.in_view"]),
    ]  # fmt: skip
    good = [event(f"good{number}", offer_id="lunch", click={}) for number in range(2)]
    results = at.report(good[0], *(one for one, _ in bad), good[1])
    assert [EventResult(), EventResult()] == [results[0], results[-1]]
    assert [[f"events[{number}].{name}" for name in names] for number, (_, names) in enumerate(bad, 1)] == [
        fields(result) for result in results[1:-1]
    ]
    assert ["good0", "good1"] == [event.event_id for _, event in at.served.stores.events.read(0, 99)]


@pytest.mark.parametrize("count", [0, 1001])
def test_batches_have_a_size(at: Server, count: int) -> None:
    """An empty batch, or one of more than 1,000, is refused as a whole."""
    with pytest.raises(grpc.RpcError) as caught:
        at.report(*[event(f"e{number}", checkout_started={}) for number in range(count)])
    call: Any = caught.value
    assert grpc.StatusCode.INVALID_ARGUMENT == call.code()
    assert "events" in call.details()


def test_a_thousand_events_of_one_person_are_counted(at: Server) -> None:
    """A full batch of one person counts each event once, also when it is sent twice."""
    batch = [event(f"e{number}", at=NOW + number // 10, order={}) for number in range(1000)]
    for expected in (False, True):
        assert {expected} == {result.duplicate for result in at.report(*batch)}
        assert 1000 == at.state("u:alice").profile.order_count


def test_unknown_offers_are_kept_and_count_for_nothing(at: Server) -> None:
    """An event of an unknown offer is logged, with a warning, and is not counted."""
    (result,) = at.report(event("e", offer_id="gone", click={}))
    assert [EventWarning.CODE_UNKNOWN_OFFER] == warnings(result)
    assert ["gone"] == [event.offer_id for _, event in at.served.stores.events.read(0, 9)]
    assert {} == at.counted("u:alice")


def test_a_proposition_names_its_offer(at: Server) -> None:
    """A proposition alone gives the offer at its rank, with the decision's placement and channel."""
    record = DecisionRecord(catalog="corner", placement="home", channel="app", offer_ids=["ride", "lunch"])
    at.served.stores.events.record([LoggedDecision("d" * 32, "", NOW, record.SerializeToString())])
    results = at.report(
        event("e1", proposition_id=f"{'d' * 32}-2", click={}),
        event("e2", proposition_id=f"{'d' * 32}-3", click={}),
        event("e3", proposition_id="nonsense", click={}),
    )
    assert [[], [EventWarning.CODE_UNKNOWN_OFFER], [EventWarning.CODE_UNKNOWN_OFFER]] == list(map(warnings, results))
    first = at.served.stores.events.read(0, 9)[0].event
    body = Event.FromString(first.body)
    assert ("corner", "lunch", "home", "app") == (first.catalog, first.offer_id, body.placement, body.channel)
    assert {(SPRING, CLICK): [NOW]} == at.counted("u:alice")


def test_orders_are_put_down_to_the_last_click(at: Server) -> None:
    """An order is attributed to a click on an offer of its category, before or in the same batch."""
    at.report(event("c1", at=NOW - 60, offer_id="lunch", proposition_id="p-1", click={}))
    food = {"items": [{"category": "food"}]}
    at.report(
        event("o1", order=food),
        event("c2", at=NOW - 30, offer_id="lunch", proposition_id="p-2", click={}),
        event("o2", order={"items": [{"category": "flowers"}]}),
        event("o3", "bob", order=food),
        event("o4", proposition_id="own-1", order=food),
    )
    put_down = {
        event.event_id: Event.FromString(event.body).attributed_proposition_id
        for _, event in at.served.stores.events.read(0, 99)
    }
    assert {"c1": "", "o1": "p-2", "c2": "", "o2": "", "o3": "", "o4": ""} == put_down


def redemption(
    event_id: str, phase: RedemptionEvent.Phase.ValueType, redemption_id: str = "r", euros: int = 0
) -> Event:
    """Return a step of a redemption of the offer "lunch"."""
    step: dict[str, Any] = {"phase": phase, "redemption_id": redemption_id}
    if euros:
        step["amount"] = {"currency_code": "EUR", "units": euros}
    return event(event_id, offer_id="lunch", redemption=step)


def test_redemptions_take_from_the_budgets(at: Server) -> None:
    """Two units are reserved, a third is refused; a released one is available again; a confirmed one is not."""
    codes = [
        at.report(step)[0].status.code
        for step in (
            redemption("e1", RESERVE, "r1", 4),
            redemption("e2", RESERVE, "r2", 4),
            redemption("e3", RESERVE, "r3", 1),
            redemption("e4", CONFIRM, "r1", 4),
            redemption("e5", RELEASE, "r2"),
            redemption("e6", CONFIRM, "r3", 7),
            redemption("e7", CONFIRM, "r3", 6),
            redemption("e8", CONFIRM, "r2", 4),
        )
    ]
    exhausted, failed = code_pb2.RESOURCE_EXHAUSTED, code_pb2.FAILED_PRECONDITION
    assert [0, 0, exhausted, 0, 0, exhausted, 0, failed] == codes
    used = {usage.budget: (usage.units, usage.micros) for usage in at.served.stores.ledger.usage()}
    assert {"corner/offer:lunch": (2, 0), "corner/campaign:spring": (2, 10_000_000)} == used
    logged = [event.event_id for _, event in at.served.stores.events.read(0, 99)]
    assert ["e1", "e2", "e4", "e5", "e7"] == logged


def test_a_step_that_is_refused_undoes_itself_alone(at: Server) -> None:
    """A reservation refused by one of two budgets takes from neither; the rest of the batch is taken in."""
    reserve = redemption("r", RESERVE, euros=11)
    results = at.report(event("o1", order={}), reserve, event("o2", order={}))
    assert [0, code_pb2.RESOURCE_EXHAUSTED, 0] == [result.status.code for result in results]
    assert [] == [usage for usage in at.served.stores.ledger.usage() if usage.units or usage.micros]
    assert ["o1", "o2"] == [event.event_id for _, event in at.served.stores.events.read(0, 9)]
    assert 2 == at.state("u:alice").profile.order_count


def test_a_step_sent_again_has_the_status_of_the_first_time(at: Server) -> None:
    """A reservation reported again after its release is a duplicate, and takes nothing."""
    at.report(redemption("e1", RESERVE))
    at.report(redemption("e2", RELEASE))
    (result,) = at.report(redemption("e1", RESERVE))
    assert EventResult(duplicate=True) == result
    assert {0} == {usage.units for usage in at.served.stores.ledger.usage()}


def test_another_currency_is_refused(at: Server) -> None:
    """An amount in another currency than the budget's is refused by its path."""
    step = redemption("e", RESERVE, euros=1)
    step.redemption.amount.currency_code = "GBP"
    assert ["events[0].redemption.amount.currency_code"] == fields(at.report(step)[0])


def test_nobodys_events_count_for_budgets_alone(at: Server) -> None:
    """An event without a person is logged, and changes no state."""
    assert [EventResult()] == at.report(event("e", "", offer_id="lunch", click={}))
    ((_, kept),) = at.served.stores.events.read(0, 9)
    assert ("", True) == (kept.person, kept.learn)
    assert [] == at.served.stores.events.unapplied(9)


def test_a_location_is_kept_as_a_geohash(at: Server) -> None:
    """Only a geohash of six characters is kept of a location."""
    at.report(event("e", location={"latitude": 48.86741234, "longitude": 2.36361234}, checkout_started={}))
    ((_, kept),) = at.served.stores.events.read(0, 9)
    assert "u09wjb" == kept.geohash
    assert not Event.FromString(kept.body).HasField("location")
    assert not Event.FromString(kept.body).HasField("user")


def test_a_stream_is_counted(at: Server) -> None:
    """A stream of several messages returns counts, and refused events by their index among all."""
    messages = [
        StreamEventsRequest(events=[event("e1", checkout_started={}), event("bad")]),
        StreamEventsRequest(events=[event("e1", checkout_started={}), event("e2", checkout_started={}), event("bad2")]),
    ]
    response = at.events.StreamEvents(iter(messages), timeout=10)
    assert (2, 1, 2) == (response.accepted_count, response.duplicate_count, response.refused_count)
    assert [(1, "bad"), (4, "bad2")] == [(refused.index, refused.event_id) for refused in response.refused]
    assert {code_pb2.INVALID_ARGUMENT} == {refused.status.code for refused in response.refused}


def test_streams_leave_threads_for_calls(at: Server) -> None:
    """With many more silent streams than threads, calls are answered; one stream over the limit is refused."""

    def silent() -> Iterator[StreamEventsRequest]:
        yield StreamEventsRequest(events=[event("s", checkout_started={})])
        ended.wait(50)

    ended = threading.Event()
    streams = [at.events.StreamEvents.future(silent(), timeout=60) for _ in range(MOST_STREAMS + 1)]
    codes = []
    try:
        refused = next(stream for stream in _done(streams))
        codes.append(refused.code())
        assert 1 == len(at.report(event("e", checkout_started={})))
    finally:
        ended.set()
    assert [grpc.StatusCode.RESOURCE_EXHAUSTED] == codes
    assert MOST_STREAMS == sum(stream.code() == grpc.StatusCode.OK for stream in streams)


def _done(streams: list[Any]) -> Iterator[Any]:
    while True:
        yield from (stream for stream in streams if stream.done())
        time.sleep(0.01)


class Dying:
    """A store that fails on every change."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._state, name)

    def change(self, changes: object, *, is_heard: bool = True) -> None:  # noqa: ARG002
        """Fail."""
        raise StoreUnavailableError(f"gone before {changes}")


def test_unapplied_events_are_applied_by_a_repeat_or_by_recovery(at: Server) -> None:
    """Events logged but not applied are applied by the next report or by recovery, once."""
    at.served.worker.upkeep.stop()  # it would recover them first
    stores = at.served.stores
    one, other = event("e1", offer_id="lunch", click={}), event("e2", offer_id="lunch", click={})
    dying = Intake(
        Stores(Dying(stores.state), stores.events, stores.ledger), LiveOffers(at.served.worker.live),
        clock=lambda: NOW, default_consent=frozenset(), geohash_length=6,
    )  # fmt: skip
    with pytest.raises(StoreUnavailableError):
        dying.take(ReportEventsRequest(events=[one, other]).events)
    assert (2, {}) == (len(stores.events.unapplied(9)), at.counted("u:alice"))
    (again,) = at.report(one)
    assert again.duplicate
    assert [NOW] == at.counted("u:alice")[SPRING, CLICK]
    assert 0 == at.served.worker.intake.recover()
    assert 1 == at.served.worker.intake.recover(grace_s=0)
    assert 0 == at.served.worker.intake.recover(grace_s=0)
    assert [NOW, NOW] == at.counted("u:alice")[SPRING, CLICK]


def test_an_erased_person_stays_erased(at: Server) -> None:
    """Events before an erasure are dropped with a warning, later ones begin a new record."""
    at.report(event("e1", at=NOW - 10, checkout_started={}))
    at.profiles.DeleteProfile(DeleteProfileRequest(user=User(user_id="alice")), timeout=10)
    results = at.report(event("e2", at=NOW - 5, checkout_started={}), event("e3", at=NOW + 5, checkout_started={}))
    assert [[EventWarning.CODE_ERASED], []] == [warnings(result) for result in results]
    assert ["e3"] == [event.event_id for _, event in at.served.stores.events.read(0, 9)]
    assert NOW + 5 == at.state("u:alice").profile.first_seen_time.seconds


class Overtaken:
    """A log in which a person is erased just before every append."""

    def __init__(self, at: Server) -> None:
        self._at = at

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._at.served.stores.events, name)

    def append(self, events: Sequence[LoggedEvent], *, applied: bool = False) -> list[bool]:
        """Append events of a person who is erased just before."""
        self._at.profiles.DeleteProfile(DeleteProfileRequest(user=User(user_id="alice")), timeout=10)
        return self._at.served.stores.events.append(events, applied=applied)


def test_an_erasure_overtakes_what_is_on_its_way(tmp_path: Path) -> None:
    """Events logged while their person is erased are removed from the log, and leave no state.

    Log and state are in different files here.
    """
    with server(tmp_path, events_url=str(tmp_path / "events.db")) as at:
        stores = at.served.stores
        overtaken = Intake(
            Stores(stores.state, Overtaken(at), stores.ledger), LiveOffers(at.served.worker.live),
            clock=lambda: NOW, default_consent=frozenset(), geohash_length=6,
        )  # fmt: skip
        overtaken.take(ReportEventsRequest(events=[event("e1", order={}), event("e2", "bob", order={})]).events)
        assert ["e2"] == [event.event_id for _, event in stores.events.read(0, 9)]
        assert (b"", 1) == (stores.state.read("u:alice"), at.state("u:bob").profile.order_count)
        assert [] == stores.events.unapplied(9)


def test_recovery_keeps_events_after_an_erasure(at: Server) -> None:
    """Recovery removes an unapplied event from before an erasure, and keeps later events."""
    at.profiles.DeleteProfile(DeleteProfileRequest(user=User(user_id="alice")), timeout=10)
    at.report(event("e2", at=NOW + 5, order={}))
    stores = at.served.stores
    late = event("e1", at=NOW - 5, order={})
    left = LoggedEvent(
        "e1", "u:alice", NOW - 5, NOW, EventKind.EVENT_KIND_ORDER, "", "", "", learn=True, body=late.SerializeToString()
    )
    at.served.worker.upkeep.stop()  # it would find it first
    assert [True] == stores.events.append([left])
    assert 1 == at.served.worker.intake.recover(grace_s=0)
    assert ["e2"] == [event.event_id for _, event in stores.events.read(0, 9)]
    assert 1 == at.state("u:alice").profile.order_count
    assert [] == stores.events.unapplied(9)


def test_a_stream_that_is_given_up_frees_its_place(at: Server) -> None:
    """A cancelled stream frees its thread, and its earlier events are kept."""
    for number in range(4):
        going = threading.Event()

        def until_told(number: int = number, going: threading.Event = going) -> Iterator[StreamEventsRequest]:
            yield StreamEventsRequest(events=[event(f"s{number}", order={})])
            going.wait(10)

        stream = at.events.StreamEvents.future(until_told(), timeout=20)
        while at.state("u:alice").profile.order_count <= number:
            time.sleep(0.01)
        stream.cancel()
        going.set()
    whole = StreamEventsRequest(events=[event("whole", order={})])
    while True:
        try:
            assert 1 == at.events.StreamEvents(iter([whole]), timeout=10).accepted_count
        except grpc.RpcError as error:
            call: Any = error
            assert grpc.StatusCode.RESOURCE_EXHAUSTED == call.code()
            time.sleep(0.01)
        else:
            break
    assert 5 == at.state("u:alice").profile.order_count


def test_a_request_that_is_none_is_refused(at: Server) -> None:
    """Bytes that cannot be decoded are refused."""
    call: Any = at.served.channel.unary_unary("/offers.v1.EventService/ReportEvents")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff", timeout=10)
    status: Any = rpc_status.from_call(caught.value)
    assert code_pb2.INVALID_ARGUMENT == status.code
    assert ReportEventsRequest.DESCRIPTOR.full_name in status.message
