"""The limits that the comments of the protos state are those the server keeps."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from offers.catalogue.hours.schedules import FIRST_SECOND, LAST_SECOND
from offers.errors import InvalidRequestError
from offers.server import limits
from offers.server.convert import query_of
from offers.server.events.event_rules import check_event
from offers.server.limits import LIMITS, Limit
from offers.v1 import event_service_pb2, offer_service_pb2, profile_service_pb2
from offers.v1.event_pb2 import Event
from offers.v1.offer_service_pb2 import GetOffersRequest
from tests.paths import ROOT

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for module in (offer_service_pb2, event_service_pb2, profile_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)
NUMBER = r"-?\d[\d,]*"
UNIT = r"(?: (characters|entries|levels|seconds|KiB|MiB))?"
RANGE = re.compile(rf"({NUMBER}) to ({NUMBER}){UNIT}")
MOST = re.compile(rf"at most ({NUMBER}){UNIT}")
HOLD = re.compile(r"(\d+) second to (\d+) hours")
INSTANTS = re.compile(r"from (\d{4})(?:-01-01T00:00:00Z)? to (\d{4})(?:-01-01T00:00:00Z \(exclusive\))?\b,?")
BYTES = {"KiB": 1 << 10, "MiB": 1 << 20}


@pytest.fixture(scope="module")
def comments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The comment of every message, field, service and method of the protos, on one line, by its name."""
    file = tmp_path_factory.mktemp("protos") / "descriptors.binpb"
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", "--descriptors", file], check=True, cwd=ROOT)
    found: dict[str, str] = {}
    for described in FileDescriptorSet.FromString(file.read_bytes()).file:
        for location in described.source_code_info.location:
            name = _name(described, list(location.path))
            if name and location.leading_comments:
                found[name] = " ".join(location.leading_comments.split())
    return found


def _name(element: Any, path: list[int]) -> str:  # noqa: ANN401 - a descriptor of any kind
    """The name of the element at a path of field numbers and indices, such as "Event.offer_id"."""
    names = []
    while path:
        field = element.DESCRIPTOR.fields_by_number[path[0]]
        if len(path) < 2 or field.name not in {"message_type", "field", "service", "method", "nested_type"}:
            return ""
        element, path = getattr(element, field.name)[path[1]], path[2:]
        names.append(element.name)
    return ".".join(names)


def limits_in(comment: str) -> list[Limit]:
    """The limits a comment states, apart from the range of instants."""
    found = []
    rest = INSTANTS.sub("", comment)
    for least, hours in HOLD.findall(rest):
        found.append(Limit(int(least), int(hours) * 3_600, "seconds"))
    for least, most, unit in RANGE.findall(rest):
        found.append(_limit(least, most, unit))
    for most, unit in MOST.findall(rest):
        found.append(_limit("0", most, unit))
    return found


def _limit(least: str, most: str, unit: str) -> Limit:
    size = BYTES.get(unit, 1)
    return Limit(int(least.replace(",", "")), int(most.replace(",", "")) * size, "bytes" if unit in BYTES else unit)


def elements() -> Iterator[str]:
    """The names of all methods, and of all messages and fields that callers send."""
    seen: set[str] = set()
    for service in SERVICES:
        for method in service.methods:
            yield f"{service.name}.{method.name}"
            yield from _sent(method.input_type, seen)


def _sent(message: Descriptor, seen: set[str]) -> Iterator[str]:
    if message.file.package != "offers.v1" or message.full_name in seen:
        return
    seen.add(message.full_name)
    if not message.GetOptions().map_entry:
        yield message.name
    for field in message.fields:
        if field_behavior_pb2.OUTPUT_ONLY in _behaviour(field):
            continue
        if not message.GetOptions().map_entry:
            yield f"{message.name}.{field.name}"
        if field.message_type is not None:
            yield from _sent(field.message_type, seen)


def _behaviour(field: FieldDescriptor) -> Any:  # noqa: ANN401 - a repeated enum
    return field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def test_each_comment_states_the_limits_that_are_kept(comments: dict[str, str]) -> None:
    """The comment of each element that callers send states its limits, in any order, and no others."""
    stated = {name: sorted(limits_in(comments.get(name, ""))) for name in elements()}

    assert {name: sorted(one) for name, one in LIMITS.items()} == {name: one for name, one in stated.items() if one}


def test_each_limit_is_stated() -> None:
    """Every constant is a bound of an element in the table."""
    used = {bound for stated in LIMITS.values() for limit in stated for bound in limit[:2]}
    constants = {name: value for name, value in vars(limits).items() if name.startswith("MAX_")}

    assert not {name: value for name, value in constants.items() if value not in used}


def test_each_range_of_instants_is_the_one_that_is_kept(comments: dict[str, str]) -> None:
    """Wherever a comment of an element that callers send states a range of years, it is that of all instants."""
    ranges = {years for name in elements() for years in INSTANTS.findall(comments.get(name, ""))}

    assert {(_year(FIRST_SECOND), _year(LAST_SECOND))} == ranges


def test_every_instant_that_is_sent_has_its_range(comments: dict[str, str]) -> None:
    """The comment of each Timestamp that callers send states its range."""
    fields = (name for name in elements() if name.endswith(("time", ".times")))

    assert not [name for name in fields if not INSTANTS.search(comments[name])]


def _year(second: int) -> str:
    return str(datetime.fromtimestamp(second, UTC).year)


FieldPath = tuple[str, ...]
"""Names of fields, from a request or an event."""


def _paths(message: Descriptor, path: FieldPath = ()) -> Iterator[tuple[str, FieldPath]]:
    """The name of each field of a message and of its parts, and the path to it."""
    for field in message.fields:
        if field_behavior_pb2.OUTPUT_ONLY in _behaviour(field):
            continue
        yield f"{message.name}.{field.name}", (*path, field.name)
        part = field.message_type
        if part is not None and part.file.package == "offers.v1" and not part.GetOptions().map_entry:
            yield from _paths(part, (*path, field.name))


ROOTS: dict[str, type[GetOffersRequest] | type[Event]] = {"request": GetOffersRequest, "event": Event}
BOUNDS = [
    pytest.param(root, path, limit, id=name)
    for root, kind in ROOTS.items()
    for name, path in dict(_paths(kind.DESCRIPTOR)).items()
    for limit in LIMITS.get(name, ())
]


def refused(message: Message) -> list[str]:
    """The fields of a request or an event that are refused."""
    if isinstance(message, Event):
        return [violation.field for violation in check_event(message)]
    assert isinstance(message, GetOffersRequest)
    try:
        query_of(message, 0)
    except InvalidRequestError as error:
        return [violation.field for violation in error.violations]
    return []


def with_value(root: str, path: Sequence[str], limit: Limit, value: int) -> tuple[Message, str]:
    """A request or event with a value of a field, or with so many characters or entries in it, and its path."""
    whole: Message = ROOTS[root]()
    holder: Any = whole
    steps = []
    for name in path[:-1]:
        part = getattr(holder, name)
        is_list = holder.DESCRIPTOR.fields_by_name[name].is_repeated
        holder = part.add() if is_list else part
        holder.SetInParent()
        steps.append(f"{name}[0]" if is_list else name)
    _fill(holder, path[-1], limit, value)
    return whole, ".".join([*steps, path[-1]])


def _fill(holder: Any, name: str, limit: Limit, value: int) -> None:  # noqa: ANN401 - a branch per type
    field = holder.DESCRIPTOR.fields_by_name[name]
    kind = "" if field.message_type is None else field.message_type.full_name
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if kind == "google.type.LatLng":
        axis = "latitude" if limit.most == limits.MAX_LATITUDE else "longitude"
        setattr(getattr(holder, name), axis, value)
    elif kind == "google.type.Money":
        getattr(holder, name).units = value
    elif kind == "google.protobuf.Duration":
        getattr(holder, name).seconds = value
    elif kind == "google.protobuf.Struct":
        _fill_attributes(getattr(holder, name), limit, value)
    elif is_map and limit.unit == "characters":
        getattr(holder, name)["x" * value].seconds = 1
    elif is_map:
        for number in range(value):
            getattr(holder, name)[str(number)].seconds = 1
    elif limit.unit == "entries":
        for _ in range(value):
            getattr(holder, name).add()
    else:
        setattr(holder, name, "x" * value if limit.unit == "characters" else value)


def _fill_attributes(attributes: Struct, limit: Limit, value: int) -> None:
    if limit.unit == "entries":
        for number in range(value):
            attributes.fields[str(number)].bool_value = True
    while limit.unit == "bytes" and (room := value - attributes.ByteSize()) > 0:
        attributes.fields["text"].string_value += "x" * max(room - 16, 1)  # lengths are varints, which grow


@pytest.mark.parametrize(("root", "path", "limit"), BOUNDS)
def test_each_limit_of_requests_and_events_is_kept(root: str, path: FieldPath, limit: Limit) -> None:
    """Values at both ends of a limit are taken, and those beyond are refused with the path of the field."""
    beyond = [limit.most + 1, *([limit.least - 1] if limit.least else [])]

    for value in beyond:
        message, field = with_value(root, path, limit, value)
        assert any(one.startswith(field) for one in refused(message)), value
    for value in (limit.least, limit.most):
        message, field = with_value(root, path, limit, value)
        assert field not in refused(message), value
