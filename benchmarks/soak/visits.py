"""The persons of a soak, who visit at a fixed rate whatever the server takes for it, and edits of the catalogue."""

import itertools
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TypeVar

import grpc

from benchmarks.soak import world
from offers.client.channel import CHANNEL_OPTIONS
from offers.v1.context_pb2 import (
    CONSENT_PURPOSE_CONTEXTUAL,
    CONSENT_PURPOSE_LEARNING,
    CONSENT_PURPOSE_PROFILING,
    Context,
    User,
)
from offers.v1.event_pb2 import Event, RedemptionEvent
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import (
    BatchGetOffersRequest,
    ExplainOffersRequest,
    GetOffersRequest,
    GetOffersResponse,
)
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Profile
from offers.v1.profile_service_pb2 import (
    DeleteProfileRequest,
    ExportProfileRequest,
    LinkIdentitiesRequest,
    UpdateProfileRequest,
)
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub

THREADS = 12
POPULATION = 10_000_000
"""Persons that visits are drawn from: nearly every one is new."""
REGULARS, REGULAR_SHARE = 2_000, 0.3
"""Persons who come again and again, and their share of the visits."""
RECONNECT_S = 60.0
"""Seconds after which a thread of the client connects anew."""
EDIT_S = 20.0
CLICKED, ORDERED, REDEEMED = 0.2, 0.3, 0.1
"""Probabilities of a click on an offer shown, and of an order and a redemption after it."""
UPDATED, ERASED, EXPLAINED, BATCHED, EXPORTED, LINKED = 20, 100, 100, 50, 200, 200
"""One visit in this many also updates its profile, erases it, and so on."""
_BATCH = 10
_CALL_S = 30.0
_PURPOSES = (CONSENT_PURPOSE_CONTEXTUAL, CONSENT_PURPOSE_PROFILING, CONSENT_PURPOSE_LEARNING)

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class Visitors:
    """Threads that make visits to a server, open loop: visit n begins n / rate seconds after the start, or late."""

    def __init__(self, target: str, rate: float) -> None:
        self.calls: Counter[str] = Counter()
        """By method, the calls that were answered."""
        self.errors: Counter[str] = Counter()
        """By method and status, the calls that failed."""
        self.late_s = 0.0
        """The greatest delay of a visit."""
        self._target, self._rate = target, rate
        self._numbers, self._begin = itertools.count(), time.monotonic()
        self._ends, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the visits under way."""
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def count(self, name: str) -> None:
        """Count a call."""
        with self._lock:
            self.calls[name] += 1

    def fail(self, name: str, error: grpc.RpcError) -> None:
        """Count a failed call."""
        with self._lock:
            self.errors[f"{name} {error.code().name}: {error.details()}"] += 1

    def _run(self, thread: int) -> None:
        choose = random.Random(thread)
        while not self._ends.is_set():
            # A pool of its own, so that closing the channel ends the connection.
            options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(self._target, options=options) as channel:
                visit = _Visit(self, channel, choose)
                until = time.monotonic() + RECONNECT_S * choose.uniform(0.5, 1.5)
                while time.monotonic() < until:
                    number = next(self._numbers)
                    due = self._begin + number / self._rate
                    if self._ends.wait(max(0.0, due - time.monotonic())):
                        return
                    self.late_s = max(self.late_s, time.monotonic() - due)
                    visit.make(number)


class _Visit:
    """The calls of visits over one connection."""

    def __init__(self, visitors: Visitors, channel: grpc.Channel, choose: random.Random) -> None:
        self._visitors, self._choose = visitors, choose
        self._offers, self._events = OfferServiceStub(channel), EventServiceStub(channel)
        self._profiles = ProfileServiceStub(channel)

    def make(self, number: int) -> None:
        """Ask for offers, report what came of them, and now and then do more."""
        user = self._person()
        request = self._request(user)
        answer = self._call("GetOffers", self._offers.GetOffers, request)
        if answer is not None and answer.offers:
            self._call("ReportEvents", self._events.ReportEvents, self._reactions(request, answer))
        if number % UPDATED == 0:
            profile = Profile()
            profile.attributes.update({"age": float(self._choose.randrange(20, 60)), "city": "Paris"})
            for purpose in _PURPOSES:
                profile.consents.add(purpose=purpose, granted=True)
            update = UpdateProfileRequest(user=User(user_id=user), profile=profile)
            update.update_mask.paths.extend(("attributes", "consents"))
            self._call("UpdateProfile", self._profiles.UpdateProfile, update)
        if number % BATCHED == 1:
            batch = BatchGetOffersRequest(requests=[self._request(self._person()) for _ in range(_BATCH)])
            self._call("BatchGetOffers", self._offers.BatchGetOffers, batch)
        if number % EXPLAINED == 2:
            self._call("ExplainOffers", self._offers.ExplainOffers, ExplainOffersRequest(request=request))
        if number % EXPORTED == 3:
            self._call("ExportProfile", self._profiles.ExportProfile, ExportProfileRequest(user=User(user_id=user)))
        if number % LINKED == 0:  # of one whose profile says that it may be kept
            link = LinkIdentitiesRequest(user_id=user, anonymous_ids=[f"visitor-{number}"])
            self._call("LinkIdentities", self._profiles.LinkIdentities, link)
        if number % ERASED == 5:
            self._call("DeleteProfile", self._profiles.DeleteProfile, DeleteProfileRequest(user=User(user_id=user)))

    def _person(self) -> str:
        if self._choose.random() < REGULAR_SHARE:
            return f"regular-{self._choose.randrange(REGULARS)}"
        return f"person-{self._choose.randrange(POPULATION)}"

    def _request(self, user: str) -> GetOffersRequest:
        context = Context(channel="app", language_code="en", time_zone="Europe/Paris")
        context.user.user_id = user
        context.user.consent.purposes.extend(_PURPOSES)
        context.attributes["weather"] = self._choose.choice(world.WEATHERS)
        context.session.session_id = f"{self._choose.getrandbits(63):016x}"
        point = context.location.point
        point.latitude = world.LATITUDE + self._choose.uniform(-world.SPREAD, world.SPREAD)
        point.longitude = world.LONGITUDE + self._choose.uniform(-world.SPREAD, world.SPREAD)
        return GetOffersRequest(context=context, placement=self._choose.choice((world.REPORTING, world.SILENT)))

    def _reactions(self, request: GetOffersRequest, answer: GetOffersResponse) -> ReportEventsRequest:
        report, choose = ReportEventsRequest(), self._choose

        def add(kind: str, offer: str = "", proposition: str = "") -> Event:
            event = report.events.add(event_id=f"{choose.getrandbits(96):024x}", user=request.context.user)
            event.offer_id, event.proposition_id = offer, proposition
            event.catalog, event.placement, event.channel = world.CATALOG, request.placement, "app"
            event.location.CopyFrom(request.context.location.point)
            getattr(event, kind).SetInParent()
            return event

        for shown in answer.offers:
            if request.placement == world.REPORTING:
                add("impression", shown.offer_id, shown.proposition_id)
            if choose.random() >= CLICKED / shown.rank:
                continue
            add("click", shown.offer_id, shown.proposition_id)
            if choose.random() < ORDERED:
                total = add("order", proposition=shown.proposition_id).order.total
                total.currency_code, total.units = "EUR", choose.randrange(10, 60)
            if choose.random() < REDEEMED and int(shown.offer_id[-4:]) % world.BUDGETED == 0:
                redemption_id = f"{choose.getrandbits(96):024x}"
                for phase in (RedemptionEvent.PHASE_RESERVE, RedemptionEvent.PHASE_CONFIRM):
                    told = add("redemption", shown.offer_id, shown.proposition_id).redemption
                    told.phase, told.redemption_id = phase, redemption_id
        add("view").view.item.category = f"category-{choose.randrange(10)}"
        return report

    def _call(
        self, name: str, method: "grpc.UnaryUnaryMultiCallable[Asked, Answered]", request: Asked
    ) -> Answered | None:
        try:
            answer = method(request, timeout=_CALL_S)
        except grpc.RpcError as error:
            self._visitors.fail(name, error)
            return None
        self._visitors.count(name)
        return answer


class Editor:
    """A thread that edits a catalogue at an interval."""

    def __init__(self, catalogue: Path) -> None:
        self.edits = 0
        self._catalogue, self._ends = catalogue, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(EDIT_S):
            self.edits += 1
            world.edit(self._catalogue, self.edits)
