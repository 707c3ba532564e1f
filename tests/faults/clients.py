"""Requests that clients of the tests send, and their deadlines."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from offers.model.instants import DAY_S
from offers.settings import Settings
from offers.state.opening import open_stores
from offers.v1.context_pb2 import Context, User
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.v1.event_service_pb2 import EventResult, ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_service_pb2 import DeleteProfileRequest, ExportProfileRequest, GetProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub
from tests.server.persons import CATALOG, event

PATIENCE_S = 30.0
"""Deadline of a call that is to be answered; long, for busy machines."""


class Client:
    """The services of a server over one connection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.offers = OfferServiceStub(channel)
        self.events = EventServiceStub(channel)
        self.profiles = ProfileServiceStub(channel)

    def ask(self, user: str = "somebody") -> GetOffersResponse:
        """Request offers for a person."""
        request = GetOffersRequest(context=Context(user=event("", user).user))
        answer: GetOffersResponse = self.offers.GetOffers(request, timeout=PATIENCE_S)
        return answer

    def report(self, *events: Event, timeout: float = PATIENCE_S) -> list[EventResult]:
        """Report events in one batch."""
        return list(self.events.ReportEvents(ReportEventsRequest(events=events), timeout=timeout).results)

    def orders_of(self, user: str) -> int:
        """Return the orders that are counted of a person; 0 of somebody who is not known."""
        try:
            request = GetProfileRequest(user=User(user_id=user))
            return int(self.profiles.GetProfile(request, timeout=PATIENCE_S).profile.order_count)
        except grpc.RpcError as error:
            pass_over(error, {grpc.StatusCode.NOT_FOUND})
            return 0

    def decisions_of(self, user: str) -> set[str]:
        """Return the ids of the decisions that are logged of a person."""
        request = ExportProfileRequest(user=User(user_id=user))
        return {one.decision_id for one in self.profiles.ExportProfile(request, timeout=PATIENCE_S).decisions}

    def erase(self, user: str) -> int:
        """Erase a person; return the second until which that is remembered."""
        request = DeleteProfileRequest(user=User(user_id=user))
        return int(self.profiles.DeleteProfile(request, timeout=PATIENCE_S).tombstone_expire_time.seconds)

    def time(self) -> int:
        """Return the second that the server's clock shows."""
        return self.erase("nobody") - Settings().retention_days["tombstone"] * DAY_S


@contextmanager
def client_of(target: str) -> Iterator[Client]:
    """Open a connection of its own to a server."""
    with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Client(channel)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    """Return the status a call has ended with."""
    code: grpc.StatusCode = error.code()
    return code


def pass_over(error: grpc.RpcError, codes: Collection[grpc.StatusCode], deadline: float = float("inf")) -> None:
    """Raise the error of a call unless its status is one of some and the time, of `time.monotonic`, is not over."""
    if code_of(error) not in codes or time.monotonic() > deadline:
        raise error


def order(event_id: str, user: str) -> Event:
    """Return the event of an order, which has happened now."""
    return event(event_id, user, at=None, order={})


def redemption(event_id: str, name: str, phase: RedemptionEvent.Phase.ValueType, **fields: Any) -> Event:  # noqa: ANN401
    """Return the event of a step of a redemption, of the offer with the budget."""
    step = RedemptionEvent(phase=phase, redemption_id=name, **fields)
    return event(event_id, f"redeemer-{name}", at=None, offer_id="lunch", redemption=step)


def write_catalog(folder: Path, units: int = 2) -> Path:
    """Write a catalogue whose offer `lunch` has a budget of some units."""
    path = folder / "catalog.yaml"
    path.write_text(CATALOG.replace("budget: {units: 2}", f"budget: {{units: {units}}}"))
    return path


def used_units(**settings: Any) -> int:  # noqa: ANN401 - the fields of Settings
    """Return the units of the offer's budget that are used, as its ledger says."""
    stores = open_stores(Settings(**settings))
    try:
        return max((one.units for one in stores.ledger.usage() if one.budget.endswith(":lunch")), default=0)
    finally:
        stores.close()
