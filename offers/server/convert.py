"""Requests as messages, converted to queries: the only place that knows both."""

import math
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from offers.catalogue.rules.creative import is_language_tag
from offers.catalogue.rules.values import is_currency, time_zones
from offers.decision.kernels.places.location import spread
from offers.errors import FieldViolation, InvalidRequestError
from offers.model.query import DEFAULT_MAX_OFFERS, MAX_OFFERS, Query, Surface
from offers.server.checks import (
    Refuse,
    check_attributes,
    check_instant,
    check_location,
    check_seen,
    check_session,
    check_user,
    cut,
    no_currency,
)
from offers.server.limits import MAX_ID, MAX_NAME
from offers.v1.context_pb2 import CONSENT_PURPOSE_CONTEXTUAL, Context, User
from offers.v1.offer_service_pb2 import VIEW_FULL, GetOffersRequest

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes, limit: int) -> M:
    """Return the message of a kind that is encoded in `data`, which may have `limit` bytes.

    Raises InvalidRequestError when the data is larger, or not a message of that kind.
    """
    if len(data) > limit:
        reason = f"the message has {len(data):,} bytes: send at most {limit:,}"
        raise InvalidRequestError([FieldViolation("request", reason)])
    try:
        return kind.FromString(data)
    except DecodeError:
        reason = f"the bytes are not a {kind.DESCRIPTOR.full_name}: encode the request with the protos of this server"
        raise InvalidRequestError([FieldViolation("request", reason)]) from None


def query_of(request: GetOffersRequest, now: int) -> Query:
    """Return the query of a request, at the second `now` unless the request names a time.

    Raises InvalidRequestError naming every field that cannot be used.
    """
    violations: list[FieldViolation] = []

    def refuse(field: str, reason: str) -> None:
        violations.append(FieldViolation(field, reason))

    context = request.context
    _check_context(context, refuse)
    max_offers = request.max_offers
    if max_offers == 0 and not request.HasField("max_offers"):
        max_offers = DEFAULT_MAX_OFFERS
    _check_answer(request, max_offers, refuse)
    if violations:
        raise InvalidRequestError(violations)
    time = context.time.seconds if context.HasField("time") else now
    latitude = longitude = math.nan
    sigma = growth = 0.0
    if context.HasField("location") and (not context.HasField("user") or may_use_context(context.user)):
        location = context.location
        latitude, longitude = location.point.latitude, location.point.longitude
        observed = location.observed_time.seconds if location.HasField("observed_time") else -1
        sigma, growth = spread(location.accuracy_m, observed, location.movement, time)
    surface = Surface(
        context.time_zone,
        request.placement,
        context.channel,
        _language(context.language_code),
        context.currency_code,
        max_offers,
        request.view == VIEW_FULL,
        request.catalog,
    )
    seed = request.seed if request.HasField("seed") else -1
    return Query(surface, time, latitude, longitude, seed, request.request_id, sigma, growth)


def may_use_context(user: User) -> bool:
    """Return whether the consent in a request lets its location and session be used for the answer."""
    return not user.HasField("consent") or CONSENT_PURPOSE_CONTEXTUAL in user.consent.purposes


def _check_context(context: Context, refuse: Refuse) -> None:
    # HasField takes longer than reading a field: ask it only where the value does not show whether the field is set.
    if context.HasField("location"):
        check_location(context.location, refuse)
    if context.HasField("time"):
        check_instant("context.time", context.time, refuse)
    time_zone, channel, currency = context.time_zone, context.channel, context.currency_code
    if time_zone and time_zone not in time_zones():
        refuse("context.time_zone", f"unknown zone '{cut(time_zone)}': send an IANA name such as Europe/Paris")
    if len(channel) > MAX_NAME:
        refuse("context.channel", f"{len(channel)} characters: send at most {MAX_NAME}")
    if context.language_code and not _language(context.language_code):
        refuse("context.language_code", "not a BCP 47 tag: send one such as 'fr' or 'pt-BR'")
    if currency and not is_currency(currency):
        refuse("context.currency_code", no_currency(currency))
    if context.HasField("user"):
        check_user(context.user, refuse)
    if context.HasField("session"):
        check_session(context.session, refuse)
    if context.HasField("attributes"):
        check_attributes("context.attributes", context.attributes, refuse)


def _check_answer(request: GetOffersRequest, max_offers: int, refuse: Refuse) -> None:
    """Check the fields that describe the answer wanted."""
    if not 1 <= max_offers <= MAX_OFFERS:
        refuse("max_offers", f"{max_offers} is out of range: send 1 to {MAX_OFFERS}, or leave it out for 10")
    view, placement, request_id = request.view, request.placement, request.request_id
    if not 0 <= view <= VIEW_FULL:
        refuse("view", f"{view} is no view: send VIEW_BASIC or VIEW_FULL")
    if len(placement) > MAX_ID:
        refuse("placement", f"{len(placement):,} characters: send at most {MAX_ID}")
    if len(request_id) > MAX_ID:
        refuse("request_id", f"{len(request_id):,} characters: send at most {MAX_ID}")
    if request.seen:
        check_seen(request.seen, refuse)


@lru_cache(1024)
def _language(tag: str) -> str:
    """Return a language tag in lower case, or "" if the text is none."""
    return tag.lower() if is_language_tag(tag) else ""
