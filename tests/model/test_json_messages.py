"""JSON is read strictly: nothing is changed, guessed or dropped on the way."""

from contextlib import suppress

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from offers.model.json_messages import MAX_LEVELS, fill, read_json, struct_of
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_it_is(value: object) -> None:
    """Whatever orjson writes is read back, with or without a byte order mark."""
    text = orjson.dumps(value)

    assert value == read_json(text) == read_json(b"\xef\xbb\xbf" + text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b"[1,]", "is not JSON"),
        (b"NaN", "is not JSON"),
        (b"[Infinity, -Infinity]", "is not JSON"),
        (b"1e999999", "infinity"),
        (b"9" * 5_000, "infinity"),
        (b'"\\ud800"', "surrogate"),
        (b"{\n\n}}", r"line 3, character 2"),
        (b'"caf\xe9"', "is not UTF-8: byte 0xE9 at byte 5"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' is written twice"),
        (b"[" * 33 + b"]" * 33, "nested too deeply"),
        (b'{"a":' * 800 + b"1" + b"}" * 800, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes, reason: str) -> None:
    """The reason says where."""
    with pytest.raises(ValueError, match=reason):
        read_json(text)


def test_the_deepest_json_fits_into_a_request() -> None:
    """A Struct of the most levels is decoded by gRPC, as an event's attribute."""
    text = b'{"a":' * (MAX_LEVELS - 1) + b"1" + b"}" * (MAX_LEVELS - 1)
    event = Event()
    event.custom.attributes.CopyFrom(struct_of(read_json(b'{"b":' + text + b"}"), "properties"))  # type: ignore[arg-type]

    assert event == ReportEventsRequest.FromString(ReportEventsRequest(events=[event]).SerializeToString()).events[0]


def test_messages_are_read_as_protobuf_writes_them() -> None:
    """The JSON of an event makes the same event; a null is a field that is not there."""
    event = Event(event_id="e", offer_id="lunch")
    event.user.user_id = "ann"
    event.event_time.FromJsonString("2026-11-24T12:15:00.000000001Z")
    event.impression.in_view.FromJsonString("2.5s")
    event.location.latitude = -1.5
    made = Event(event_id="e")

    fill(made, {**MessageToDict(event), "event_id": None, "session_id": None}, "data")

    assert event == made


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], r"data: \[\] is no object: write the message Event"),
        ({"order": []}, r"data\.order: \[\] is no object"),
        ({"order": ""}, r'data\.order: "" is no object'),
        ({"order": {"items": {}}}, r"data\.order\.items: \{\} is no list"),
        ({"order": {"items": [None]}}, r"data\.order\.items\[0\]: null is no object"),
        ({"order": {"items": [{"quantity": 1.5}]}}, "quantity"),
        ({"order": {"items": [{"quantity": True}]}}, r"quantity: true is no number"),
        ({"order": {"items": [{"quantity": "1e999999"}]}}, r"quantity: \"1e999999\" is no number"),
        ({"order": {"items": [{"quantity": "1_000"}]}}, r"quantity: \"1_000\" is no number"),
        ({"order": {"gift": 1}}, "gift"),
        ({"order": {"order_id": 7}}, "order_id"),
        ({"order": {"order_id": False}}, "order_id"),
        ({"location": {"latitude": True}}, r"latitude: true is no number"),
        ({"location": {"latitude": "Infinity"}}, r"latitude: \"Infinity\" is no number"),
        ({"redemption": {"phase": True}}, r"phase: true is no number"),
        ({"redemption": {"phase": 1.5}}, r"phase: 1\.5 is no name"),
        ({"redemption": {"phase": "PHASE_NAP"}}, "PHASE_NAP"),
        ({"redemption": {"hold": 900}}, r"hold: 900 is no duration"),
        ({"redemption": {"hold": "15m"}}, r"hold: \"15m\" is no duration"),
        ({"event_time": "2026-1-4T00:00:00Z"}, r"event_time: '2026-1-4T00:00:00Z' is no instant"),
        ({"event_time": 5}, r"event_time: 5 is no instant"),
        (
            {"custom": {"attributes": {"a": [2**53 + 1]}}},
            r"attributes\.a\[0\]: 9007199254740993 is a number that would be changed",
        ),
        ({"custom": {"attributes": []}}, "attributes"),
        ({"nap": {}}, '"nap"'),
    ],
)
def test_what_is_no_message_is_refused_with_its_path(value: object, reason: str) -> None:
    """Every shape that does not fit the schema raises ValueError."""
    with pytest.raises(ValueError, match=reason):
        fill(Event(), value, "data")


@given(st.dictionaries(st.sampled_from([field.name for field in Event.DESCRIPTOR.fields]), JSON))
def test_any_json_is_a_message_or_a_reason(value: dict[str, object]) -> None:
    """No shape of JSON raises anything but ValueError."""
    event = Event()
    with suppress(ValueError):
        fill(event, value, "data")
        assert event == Event.FromString(event.SerializeToString())
