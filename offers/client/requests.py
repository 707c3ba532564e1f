"""Requests: the context of a decision and the person it is for, and ids for requests that have none."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from offers.v1.context_pb2 import ConsentGrants, ConsentPurpose, Context, Location, User
from offers.v1.offer_service_pb2 import BatchGetOffersRequest, GetOffersRequest
from offers.v1.venue_pb2 import TravelMode


class ContextFields(TypedDict, total=False):
    """The arguments of `context`, all of them optional."""

    lat: float | None
    """Latitude in degrees; goes with `lng`."""
    lng: float | None
    """Longitude in degrees."""
    accuracy_m: float | None
    """Radius in metres that the person is within with a probability of 68 %."""
    observed_at: datetime | None
    """When `lat` and `lng` were measured, with its UTC offset."""
    movement: "TravelMode.ValueType"
    """How the person has moved since `observed_at`."""
    at: datetime | None
    """The instant to decide for, with its UTC offset; by default the instant the request arrives."""
    time_zone: str
    """IANA name."""
    user_id: str
    anonymous_id: str
    """The id of a visitor who has not signed in; excludes `user_id`."""
    consent: "Sequence[ConsentPurpose.ValueType] | None"
    """The purposes the person has agreed to, for a `user_id` or `anonymous_id`; () refuses all. By default the server
    decides by what it was told before."""
    language: str
    """BCP 47 tag."""
    currency: str
    """Code of ISO 4217."""
    channel: str
    attributes: Mapping[str, Any] | None


def context(**fields: Unpack[ContextFields]) -> Context:
    """Return a Context with the given fields; see ContextFields.

    Raises ValueError for one coordinate without the other, for accuracy, observation or movement without a position,
    for two identities, for consent of nobody, and for an instant without an offset. Raises TypeError for an unknown
    argument.
    """
    if unknown := fields.keys() - ContextFields.__annotations__.keys():
        raise TypeError(f"context() has no argument '{min(unknown)}'")
    made = Context(
        time=_timestamp(fields.get("at")),
        time_zone=fields.get("time_zone", ""),
        language_code=fields.get("language", ""),
        currency_code=fields.get("currency", ""),
        channel=fields.get("channel", ""),
        location=_location(fields),
        user=_user(fields),
    )
    if (attributes := fields.get("attributes")) is not None:
        made.attributes.update(attributes)
    return made


def _location(fields: ContextFields) -> Location | None:
    lat, lng = fields.get("lat"), fields.get("lng")
    accuracy_m, observed_at = fields.get("accuracy_m"), fields.get("observed_at")
    movement = fields.get("movement", TravelMode.TRAVEL_MODE_UNSPECIFIED)
    if (lat is None) != (lng is None):
        message = "lat and lng go together: give both or neither"
        raise ValueError(message)
    if lat is None or lng is None:
        if accuracy_m is not None or observed_at is not None or movement:
            message = "accuracy_m, observed_at and movement say how well lat and lng are known: give them too"
            raise ValueError(message)
        return None
    location = Location(accuracy_m=accuracy_m, observed_time=_timestamp(observed_at), movement=movement)
    location.point.latitude, location.point.longitude = lat, lng
    return location


def person(
    user_id: str = "", anonymous_id: str = "", consent: "Sequence[ConsentPurpose.ValueType] | None" = None
) -> User:
    """Return a person, for events and profiles: a known one by `user_id`, or a visitor by `anonymous_id`.

    `consent` is as in ContextFields. Raises ValueError for two identities or none.
    """
    if bool(user_id) == bool(anonymous_id):
        message = "a person is known by user_id or by anonymous_id: give one"
        raise ValueError(message)
    made = User(user_id=user_id) if user_id else User(anonymous_id=anonymous_id)
    if consent is not None:
        made.consent.CopyFrom(ConsentGrants(purposes=consent))
    return made


def _user(fields: ContextFields) -> User | None:
    user_id, anonymous_id, consent = fields.get("user_id", ""), fields.get("anonymous_id", ""), fields.get("consent")
    if user_id or anonymous_id:
        return person(user_id, anonymous_id, consent)
    if consent is not None:
        message = "consent is a person's: give user_id or anonymous_id too"
        raise ValueError(message)
    return None


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        message = f"{instant} could be any instant: give it a time zone"
        raise ValueError(message)
    return Timestamp(seconds=math.floor(instant.timestamp()))


def identified(request: GetOffersRequest) -> GetOffersRequest:
    """Return the request with an id; a copy if it had none, as the caller's next call with it is another decision."""
    if request.request_id:
        return request
    copy = GetOffersRequest()
    copy.CopyFrom(request)
    copy.request_id = uuid4().hex
    return copy


def all_identified(request: BatchGetOffersRequest) -> BatchGetOffersRequest:
    """Return a batch whose requests have ids; see `identified`."""
    return BatchGetOffersRequest(requests=map(identified, request.requests))
