"""Files of events are read one by one; a fault never loses another event."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from offers.state import event_files, tracked
from offers.state.event_files import DEFECT, Entry, EventFile
from offers.state.tracked import Identified, PassedOver
from offers.v1.event_pb2 import Event

GOOD: dict[str, object] = {"type": "track", "event": "Nap", "messageId": "good", "userId": "ann"}
CLOUD: dict[str, object] = {
    "specversion": "1.0",
    "id": "c",
    "source": "/s",
    "type": "offers.v1.custom",
    "data": {"custom": {"name": "x"}},
}


def read(content: bytes) -> list[Entry]:
    """Return the entries of a file."""
    return list(EventFile(io.BytesIO(content)).entries())


def lines(*values: object) -> bytes:
    """Return a file of lines; bytes are taken as they are."""
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in values)


def only(value: object) -> Any:  # noqa: ANN401 - whatever the line became
    """Return what one line becomes. It has no fault."""
    (entry,) = read(lines(value))
    assert "" == entry.fault
    return entry.made


def fault(value: object) -> str:
    """Return the fault of a line."""
    (entry,) = read(lines(value))
    assert entry.made is None
    return entry.fault


def call(**fields: object) -> dict[str, object]:
    """Return a track call with further fields."""
    return {**GOOD, **fields}


def order(**properties: object) -> dict[str, object]:
    """Return the call of an order."""
    return call(event="Order Completed", properties=properties)


NAMES = st.sampled_from(
    [
        *("type", "event", "messageId", "userId", "anonymousId", "previousId", "timestamp", "context", "location"),
        *("latitude", "longitude", "properties", "traits", "products", "quantity", "price", "total", "currency"),
        *("batch", "specversion", "id", "source", "subject", "time", "data", "data_base64", "custom", "order", "items"),
    ]
)
WORDS = st.sampled_from(
    [
        *("track", "identify", "alias", "page", "Order Completed", "Product Viewed", "u:ann", "1e999999", "NaN", ""),
        *("1.0", "offers.v1.order", "offers.v1.custom", "2026-11-24T12:15:00Z", "2026-11-24T12:15:00+99:99"),
    ]
)
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=8),
    max_leaves=30,
)


@given(st.lists(SHAPES.map(lambda value: json.dumps(value).encode()) | st.binary()))
def test_any_line_is_read_or_refused_and_loses_no_other(shapes: list[bytes]) -> None:
    """Between lines of any shape, good lines are read; nothing is a defect."""
    good = orjson.dumps(GOOD)
    content = [good, *(shape.replace(b"\n", b" ") for shape in shapes), good]

    with capture_logs() as logged:
        entries = read(lines(*content))

    assert [] == logged
    assert (entries[0].made, entries[-1].made) == (only(GOOD), only(GOOD))
    assert str(len(content)) == entries[-1].place
    assert {str(number) for number, line in enumerate(content, 1) if line.strip()} == {
        entry.place.split(":")[0] for entry in entries
    }
    assert all((entry.made is None) == bool(entry.fault) for entry in entries)


def test_a_defect_is_the_fault_of_its_line_and_logged_without_personal_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception refuses its line; the log has its traceback, and the fault has not."""
    right: Callable[..., object] = tracked.read

    def wrong(value: dict[str, Any]) -> object:
        if value["userId"] == "bob":
            message = "about bob"
            raise RuntimeError(message)
        return right(value)

    monkeypatch.setattr(tracked, "read", wrong)

    with capture_logs() as logged:
        entries = read(lines(GOOD, call(userId="bob"), GOOD))

    assert ["", DEFECT, ""] == [entry.fault for entry in entries]
    (record,) = logged
    assert ("event_not_read", "2", "RuntimeError") == (record["event"], record["place"], record["error"])
    assert "wrong" in record["frames"][-1]
    assert "bob" not in str(record)


@pytest.mark.parametrize("first", [b"", b"[\n", b"{\n", orjson.dumps(GOOD), b"x" * 5_000])
def test_progress_is_told_in_bytes(monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    """Bytes taken up are those of the file at its end, also of documents and of lines that are too long."""
    monkeypatch.setattr(event_files, "MAX_LINE_BYTES", 4_000)
    content = first + b"\n" + orjson.dumps(GOOD) + b"\n"
    file = EventFile(io.BytesIO(content))

    assert list(file.entries())
    assert len(content) == file.done


def test_blank_lines_byte_order_marks_and_line_ends_of_windows_are_passed_over() -> None:
    """A mark may stand before any line, as files are joined."""
    content = b"\xef\xbb\xbf" + orjson.dumps(GOOD) + b"\r\n\r\n   \n\xef\xbb\xbf" + orjson.dumps(GOOD) + b"\n{}"

    assert [("1", ""), ("4", "")] == [(entry.place, entry.fault) for entry in read(content)[:2]]
    assert "5" == read(content)[2].place


def test_batches_are_read_by_their_parts() -> None:
    """The list "batch" of Segment and the list of CloudEvents: each part has its index, and its own fault."""
    segment: dict[str, object] = {
        "batch": [GOOD, 5, call(userId=None), {"type": "screen"}],
        "sentAt": "2026-11-24T12:15:00Z",
    }

    nameless: dict[str, object] = {**CLOUD, "id": None}

    entries = read(lines(GOOD, segment, [CLOUD, [CLOUD], nameless]))

    assert ["1", *(f"2: batch[{index}]" for index in range(4)), *(f"3: [{index}]" for index in range(3))] == [
        entry.place for entry in entries
    ]
    assert [False, False, True, True, False, False, True, True] == [bool(entry.fault) for entry in entries]


def test_a_batch_shares_its_context_and_time() -> None:
    """Calls of a batch have its context and time where they have none of their own."""
    context = {"sessionId": "s", "channel": "web"}
    own: dict[str, object] = call(context={"channel": "app", "sessionId": None}, timestamp="2026-11-24T10:00:00Z")
    batch = {"batch": [GOOD, own], "context": context, "sentAt": "2026-11-24T12:00:00Z"}

    first, second = (entry.made for entry in read(lines(batch)))

    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert ("s", "web", 12) == (first.session_id, first.channel, first.event_time.ToDatetime().hour)
    assert ("app", 10) == (second.channel, second.event_time.ToDatetime().hour)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\n"])
def test_a_document_over_several_lines_is_one_batch(end: bytes) -> None:
    """A batch that is written with indents is read as a whole."""
    text = orjson.dumps([CLOUD, {"batch": []}, CLOUD], option=orjson.OPT_INDENT_2)

    assert [("1: [0]", False), ("1: [1]", True), ("1: [2]", False)] == [
        (entry.place, bool(entry.fault)) for entry in read(text + end)
    ]
    assert ["2: batch[0]"] == [
        entry.place for entry in read(b"\n" + orjson.dumps({"batch": [GOOD]}, option=orjson.OPT_INDENT_2))
    ]


def test_a_broken_document_is_refused_with_the_place_of_its_fault() -> None:
    """The line within the document is named."""
    (entry,) = read(b'[\n{"specversion": "1.0"},\n{"a":}\n]\n')

    assert ("1", True) == (entry.place, "line 3, character 6" in entry.fault)


def test_a_broken_first_line_is_no_document() -> None:
    """Lines after a first one that is cut off are read, however long they are."""
    long = call(properties={"a": "x" * 100_000})

    assert ["1", "2", "3"] == [entry.place for entry in read(lines(b'{"type": "track",', long, GOOD))]
    assert [True, False, False] == [bool(entry.fault) for entry in read(lines(b"[1, 2", long, GOOD))]


def test_a_line_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is passed over, and the next line is read; so is a document that is too long."""
    monkeypatch.setattr(event_files, "MAX_LINE_BYTES", 1_000)
    long = call(properties={"a": "x" * 5_000})

    entries = read(lines(long, GOOD, long, GOOD, long))

    assert [True, False, True, False, True] == ["write one event to a line" in entry.fault for entry in entries]
    assert ["1", "2", "3", "4", "5"] == [entry.place for entry in entries]
    (document,) = read(b"[\n" + orjson.dumps(long) + b"\n]")
    assert "write one event to a line" in document.fault


def test_null_is_a_field_that_is_not_there() -> None:
    """In the attributes of CloudEvents, in their data, and in the fields of calls."""
    assert only(CLOUD) == only({**CLOUD, "time": None, "subject": None, "dataschema": None, "comment": None})
    assert "c" == only({**CLOUD, "data": {"event_id": None, "custom": {"name": "x"}}}).event_id
    assert only(GOOD) == only(
        call(properties=None, context={"location": None}, timestamp=None, sentAt=None, anonymousId=None)
    )
    assert only(order(products=[{"product_id": "soup"}])) == only(
        order(
            products=[{"product_id": "soup", "quantity": None, "price": None, "sku": None}], total=None, currency=None
        )
    )
    assert only(order()) == only(order(products=None))


def test_what_is_missing_is_told() -> None:
    """A null where a field must be is a missing field."""
    assert "'id' is missing" in fault({**CLOUD, "id": None})
    assert "'messageId' is missing" in fault(call(messageId=None))
    assert "'event' is missing" in fault(call(event=None))
    assert "'userId' and 'anonymousId' are missing" in fault(call(userId=None))
    assert "neither a CloudEvent" in fault({})
    assert "specversion: null" in fault({**CLOUD, "specversion": None})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (call(userId=True), "userId: true is neither a text nor a whole number"),
        (call(userId=1.5), "userId: 1.5 is neither"),
        (call(userId=["a"]), 'userId: ["a"] is neither'),
        (call(properties=["a"]), 'properties: ["a"] is no object'),
        (call(context={"location": "here"}), 'context.location: "here" is no object'),
        (
            call(context={"location": {"latitude": "48", "longitude": 2}}),
            'context.location.latitude: "48" is no number',
        ),
        (call(timestamp=1_795_522_500), "timestamp: 1795522500 is no instant"),
        (call(timestamp=""), "timestamp: '' is no instant"),
        (call(timestamp="2026-11-24T12:15:00+99:99"), "its offset is beyond 23:59"),
        (call(properties={"a": 2**53 + 1}), "properties.a: 9007199254740993 is a number that would be changed"),
        (order(products={}), "properties.products: {} is no list"),
        (order(products=[None]), "properties.products[0]: null is no object"),
        (order(products=[{"quantity": 1.5}]), "properties.products[0].quantity: 1.5 is no whole number of pieces"),
        (order(products=[{"quantity": "2"}]), 'properties.products[0].quantity: "2" is no number'),
        (order(products=[{"quantity": True}]), "properties.products[0].quantity: true is no number"),
        (order(products=[{"quantity": 1e300}]), "properties.products[0].quantity: 1e+300 is out of range"),
        (order(products=[{"product_id": False}]), "properties.products[0].product_id: false is neither"),
        (order(total="1e999999"), 'properties.total: "1e999999" is no number'),
        (order(total="NaN"), 'properties.total: "NaN" is no number'),
        (order(total="12,50"), 'properties.total: "12,50" is no number'),
        (order(total=True), "properties.total: true is no number"),
        (order(total=1e300), "properties.total: 1e+300 is out of range"),
        ({"type": "identify", "userId": "a", "traits": [1]}, "traits: [1] is no object"),
        ({"type": "alias", "userId": "a"}, "an alias needs userId and previousId"),
        ({**CLOUD, "id": 5}, "id: 5 is no text"),
        ({**CLOUD, "subject": ""}, 'subject: "" is no text'),
        ({**CLOUD, "subject": "ann"}, "subject: 'ann' is no person"),
        ({**CLOUD, "specversion": 1.0}, "specversion: 1.0 is not read"),
        ({**CLOUD, "time": "2026-1-4T00:00:00Z"}, "time: '2026-1-4T00:00:00Z' is no instant"),
        ({**CLOUD, "data": "text"}, 'data: "text" is no object'),
        ({**CLOUD, "data_base64": "e30="}, "'data' and 'data_base64' are both there"),
        ({**CLOUD, "data": None, "data_base64": "no!"}, 'data_base64: "no!" is no base64'),
        ({**CLOUD, "data": None, "data_base64": "WzFd"}, "data: [1] is no object"),
        ("text", 'is no object: "text"'),
        (None, "is no object: null"),
        ([], "is an empty batch, and no object"),
        ({"batch": {}}, "batch: {} is no list"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(value: object, reason: str) -> None:
    """Fractions of pieces, booleans as ids or numbers, texts as numbers, and other shapes."""
    assert reason in fault(value)


@pytest.mark.parametrize(("total", "units", "nanos"), [(0.1 + 0.7, 0, 800_000_000), (1.1 * 3, 3, 300_000_000)])
def test_sums_computed_in_floats_are_read_as_they_were_meant(total: float, units: int, nanos: int) -> None:
    """What a float is off by is no fraction of a cent."""
    made = only({**order(total=total), "userId": "ada"})
    assert (units, nanos) == (made.order.total.units, made.order.total.nanos)


def test_ids_may_be_whole_numbers_and_sums_texts() -> None:
    """Ids are kept digit by digit, and sums to the cent."""
    made = only(
        {**order(order_id=7, total="9.10", products=[{"sku": 3, "quantity": 2.0, "price": 4.55}]), "userId": 10**25}
    )

    assert (f"1{'0' * 25}", "7", "3") == (made.user.user_id, made.order.order_id, made.order.items[0].product_id)
    assert (9, 100_000_000, 2) == (made.order.total.units, made.order.total.nanos, made.order.items[0].quantity)
    assert (4, 550_000_000) == (made.order.items[0].price.units, made.order.items[0].price.nanos)


def test_calls_about_other_things_are_passed_over() -> None:
    """Page, screen and group calls are no faults."""
    assert [PassedOver(kind) for kind in ("page", "screen", "group")] == [
        only({"type": kind, "userId": "ann"}) for kind in ("page", "screen", "group")
    ]


def test_a_null_trait_is_an_attribute_to_remove() -> None:
    """As in Segment, null takes a trait away."""
    made = only({"type": "identify", "userId": "ann", "traits": {"city": "Lyon", "age": None}})

    assert isinstance(made, Identified)
    assert ({"city": "Lyon"}, ("age",)) == (dict(made.attributes), made.removed)


def test_data_may_be_base64() -> None:
    """JSON in `data_base64` is read as `data` is."""
    encoded = base64.b64encode(orjson.dumps(CLOUD["data"])).decode()

    assert only(CLOUD) == only({**CLOUD, "data": None, "data_base64": encoded})
