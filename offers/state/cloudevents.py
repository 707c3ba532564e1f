"""Events and messages of triggers as lines of CloudEvents 1.0, for export and import.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.timestamp_pb2 import Timestamp

from offers.model.events import KINDS
from offers.state.person.ids import is_person, person_of, user_of
from offers.state.stores import LoggedEvent
from offers.v1.context_pb2 import User
from offers.v1.event_pb2 import Event
from offers.v1.trigger_pb2 import OfferTriggered

TYPE = "offers.v1."
"""Prefix of types; the name of the event's field in Event follows."""


def exported(logged: LoggedEvent) -> bytes:
    """Return an event of the log as a line, without the line break."""
    event = Event.FromString(logged.body)
    kind = event.WhichOneof("kind") or ""
    line: dict[str, Any] = {
        "specversion": "1.0",
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
    line["data"] = MessageToDict(event, preserving_proto_field_name=True)
    return orjson.dumps(line)


def triggered(event_id: str, message: OfferTriggered) -> bytes:
    """Return the message of a trigger as a line, without the line break."""
    line = {
        "specversion": "1.0",
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
    the line.
    """
    for name in ("id", "source", "type"):
        if not isinstance(line.get(name), str) or not line[name]:
            raise ValueError(f"'{name}' is missing: CloudEvents must have it, as text")
    kind = line["type"].removeprefix(TYPE)
    if kind == line["type"] or kind not in KINDS:
        raise ValueError(f"'{line['type']}' is no type of event: there are {', '.join(TYPE + name for name in KINDS)}")
    if not isinstance(data := line.get("data", {}), dict):
        raise ValueError("'data' is no object: write an Event of offers.v1 in JSON")  # noqa: TRY004 - a fault of the line, as the others
    event = Event(event_id=line["id"])
    if "time" in line:
        event.event_time.CopyFrom(instant(line["time"]))
    if "subject" in line:
        event.user.CopyFrom(_person(str(line["subject"])))
    try:
        ParseDict(data, event)
    except ParseError as error:
        raise ValueError(f"data: {str(error).splitlines()[0]}") from None
    said = event.WhichOneof("kind")
    if said not in {None, kind}:
        raise ValueError(f"'data' has {said}, and the type says {kind}")
    getattr(event, kind).SetInParent()
    return event


def _person(subject: str) -> User:
    if not is_person(subject):
        raise ValueError(f"subject: '{subject}' is no person: write u: and a user's id, or a: and a visitor's")
    return user_of(subject)


def instant(text: object) -> Timestamp:
    """Return the instant of an RFC 3339 text. Raises ValueError."""
    time = Timestamp()
    try:
        time.FromJsonString(str(text))
    except ValueError:
        raise ValueError(f"'{text}' is no instant: write one such as 2026-11-24T12:15:00Z") from None
    return time
