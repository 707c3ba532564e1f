"""Events and messages of triggers as lines of CloudEvents 1.0, for export and import.

Sources: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from base64 import b64decode
from collections.abc import Iterable
from math import isfinite
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.struct_pb2 import Value

from offers.model.events import KINDS
from offers.model.json_messages import fill, instant_of, read_json, unfit
from offers.state.person.ids import is_person, person_of, user_of
from offers.state.stores import LoggedEvent
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event
from offers.v1.trigger_pb2 import OfferTriggered

TYPE = "offers.v1."
"""Prefix of types; the name of the event's field in Event follows."""
_VERSION = "1.0"
"""The version of CloudEvents that lines have: 1.0.1 and 1.0.2 write it in the same way."""


def exported(logged: LoggedEvent) -> bytes:
    """Return an event of the log as a line, without the line break. Raises ValueError where JSON cannot hold it."""
    event = Event.FromString(logged.body)
    kind = event.WhichOneof("kind") or ""
    line: dict[str, Any] = {
        "specversion": _VERSION,
        "id": logged.event_id,
        "source": f"/offers/{logged.catalog}",
        "type": TYPE + kind,
        "time": event.event_time.ToJsonString(),
    }
    if logged.person:
        line["subject"] = logged.person
    if logged.geohash:
        line["geohash"] = logged.geohash
    line["learn"] = logged.learn
    event.ClearField("event_id")
    event.ClearField("event_time")
    _spell_out(event.custom.attributes.fields.values() if kind == "custom" else ())
    try:
        line["data"] = MessageToDict(event, preserving_proto_field_name=True)
    except SerializeToJsonError as error:
        raise ValueError(str(error)) from None
    return orjson.dumps(line)


def _spell_out(values: Iterable[Value]) -> None:
    """Replace numbers that JSON does not have by texts: "nan", "inf", "-inf"."""
    for value in values:
        kind = value.WhichOneof("kind")
        if kind == "number_value" and not isfinite(value.number_value):
            value.string_value = str(value.number_value)
        elif kind == "struct_value":
            _spell_out(value.struct_value.fields.values())
        elif kind == "list_value":
            _spell_out(value.list_value.values)


def triggered(event_id: str, message: OfferTriggered) -> bytes:
    """Return the message of a trigger as a line, without the line break."""
    line = {
        "specversion": _VERSION,
        "id": event_id,
        "source": f"/offers/{message.catalog}",
        "type": TYPE + OfferTriggered.DESCRIPTOR.name,
        "time": message.time.ToJsonString(),
        "subject": person_of(message.user),
        "datacontenttype": "application/json",
        "data": MessageToDict(message, preserving_proto_field_name=True),
    }
    return orjson.dumps(line)


def imported(line: dict[str, Any]) -> Event:
    """Return the event of a line. Raises ValueError that says what is wrong with it.

    The line's type names the kind, its data is an Event. Id, time and person in the data take precedence over those of
    the line. An attribute of null is not there.
    """
    attributes = {name: value for name, value in line.items() if value is not None}
    if attributes.get("specversion") != _VERSION:
        raise unfit("specversion", attributes.get("specversion"), f'is not read: write "{_VERSION}"')
    for name in ("id", "source", "type"):
        if name not in attributes:
            raise ValueError(f"'{name}' is missing: CloudEvents must have it, as text")
    for name in ("id", "source", "type", "subject", "datacontenttype", "dataschema"):
        if name in attributes and not (isinstance(attributes[name], str) and attributes[name]):
            raise unfit(name, attributes[name], "is no text with at least one character")
    kind = attributes["type"].removeprefix(TYPE)
    if kind == attributes["type"] or kind not in KINDS:
        known = ", ".join(TYPE + name for name in KINDS)
        raise unfit("type", attributes["type"], f"is no type of event: there are {known}")
    event = Event(event_id=attributes["id"])
    if "time" in attributes:
        event.event_time.CopyFrom(instant_of(attributes["time"], "time"))
    if "subject" in attributes:
        event.user.CopyFrom(_person(attributes["subject"]))
    fill(event, _data(attributes), "data")
    said = event.WhichOneof("kind")
    if said not in {None, kind}:
        raise ValueError(f"'data' has {said}, and the type says {kind}")
    getattr(event, kind).SetInParent()
    return event


def _data(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the data of an event as an object; empty where it has none. Raises ValueError."""
    data, encoded = attributes.get("data", {}), attributes.get("data_base64")
    if encoded is not None:
        if "data" in attributes:
            message = "'data' and 'data_base64' are both there: write one of them"
            raise ValueError(message)
        try:
            decoded = b64decode(encoded, validate=True)
        except (TypeError, ValueError):
            raise unfit("data_base64", encoded, "is no base64") from None
        try:
            data = read_json(decoded)
        except ValueError as error:
            raise ValueError(f"data_base64: {error}") from None
    if not isinstance(data, dict):
        raise unfit("data", data, "is no object: write an Event of offers.v1 in JSON")
    return data


def _person(subject: str) -> User:
    if not is_person(subject):
        raise ValueError(f"subject: '{subject}' is no person: write u: and a user's id, or a: and a visitor's")
    return user_of(subject)
