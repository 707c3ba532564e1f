"""A real server in this process with the clock of the data, and the real learner over its log."""

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import grpc

from benchmarks.quality.mapping import CONSENT
from offers.catalogue.document import write_fragments
from offers.client import CHANNEL_OPTIONS
from offers.learning.learner import Learner
from offers.learning.settling import SETTLE_S
from offers.server.offer_values import offers_of
from offers.testing import Served, serving
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Context, User
from offers.v1.event_pb2 import Event
from offers.v1.event_service_pb2 import ReportEventsRequest
from offers.v1.event_service_pb2_grpc import EventServiceStub
from offers.v1.offer_service_pb2 import (
    FACTOR_NAME_PROPENSITY,
    BatchGetOffersRequest,
    GetOffersRequest,
    GetOffersResponse,
    Proposition,
)
from offers.v1.offer_service_pb2_grpc import OfferServiceStub
from offers.v1.profile_pb2 import Consent, Profile
from offers.v1.profile_service_pb2 import UpdateProfileRequest
from offers.v1.profile_service_pb2_grpc import ProfileServiceStub

LATER_S = 10 * 365 * 86_400
"""A request ten years after its instant is hypothetical: it is answered, and not logged."""
AT_ONCE = 500
"""Requests, or events, in one call."""
_ANSWERS_AT_ONCE = 100
_Sent = TypeVar("_Sent")


class Service:
    """A client of one server, over gRPC, that sets the server's clock: `second`, in seconds since 1970."""

    def __init__(self, second: int) -> None:
        self.second = second
        self.published = 0
        """Number of models that the server has used."""
        self.refused = 0
        """Number of models that the learner found worse."""
        self._ahead_s = 0
        self._told: list[str] = []

    def clock(self) -> float:
        """Return the server's time."""
        return self.second + self._ahead_s

    def begin(self, served: Served, channel: grpc.Channel, learner: Learner) -> None:
        """Start."""
        self.served, self.learner = served, learner
        self._offers, self._events = OfferServiceStub(channel), EventServiceStub(channel)
        self._profiles = ProfileServiceStub(channel)

    def get(self, requests: Sequence[GetOffersRequest]) -> list[GetOffersResponse]:
        """Ask for offers now; the decisions are logged."""
        found: list[GetOffersResponse] = []
        for some in parts(requests, _ANSWERS_AT_ONCE):
            for result in self._offers.BatchGetOffers(BatchGetOffersRequest(requests=some)).results:
                if result.HasField("status"):
                    raise RuntimeError(result.status.message)
                found.append(result.response)
        return found

    def ask(self, requests: Sequence[GetOffersRequest]) -> list[GetOffersResponse]:
        """Make hypothetical requests, at their own instants: nothing is logged, and no state changes."""
        self._ahead_s = LATER_S
        try:
            return self.get(requests)
        finally:
            self._ahead_s = 0

    def report(self, events: Sequence[Event]) -> None:
        """Report events now. Raises RuntimeError where one was refused, or accepted with a warning."""
        for some in parts(events, AT_ONCE):
            for result in self._events.ReportEvents(ReportEventsRequest(events=some)).results:
                if result.HasField("status") or result.warnings or result.duplicate:
                    raise RuntimeError(str(result))

    def keep(self, user: User, profile: Profile) -> None:
        """Create the profile of a person, who agrees to everything."""
        known = Profile(attributes=profile.attributes)
        known.consents.extend(Consent(purpose=purpose, granted=True) for purpose in CONSENT.purposes)
        self._profiles.UpdateProfile(UpdateProfileRequest(user=user, profile=known))

    def learn(self) -> None:
        """Learn the log with all outcomes so far, and use the model from now on, unless the learner finds it worse."""
        self.served.worker.recorder.flush()
        while self.learner.step(math.inf):
            pass
        self.learner.training.pass_time(self.second + max(SETTLE_S))
        model = self.learner.publish()
        if model is not None:
            self.served.worker.live.use_model(model)
            self.published += 1
        elif self.learner.refused != self._told:
            self.refused += 1
        self._told = self.learner.refused

    def grow(self) -> list[str]:
        """Grow trees from the log, as `offers learn --model gbdt` does, and use them as well.

        Returns why trees of some rewards are not used; the online model answers in their place.
        """
        grown = self.learner.grow(lambda: False)
        self.learn()
        return [f"{one.reward}: {one.refused}" for one in grown if one.refused]


def event(event_id: str, context: Context, shown: Proposition | None = None) -> Event:
    """Return an event with the person and instant of a context, about an offer that was shown, without its kind."""
    made = Event(event_id=event_id, event_time=context.time, user=context.user)
    if shown is not None:
        made.offer_id, made.proposition_id = shown.offer_id, shown.proposition_id
    return made


def proposition(response: GetOffersResponse, offer_id: str) -> Proposition:
    """Return the index of an offer in an answer. Raises StopIteration if it is not there."""
    return next(shown for shown in response.offers if shown.offer_id == offer_id)


def propensity(shown: Proposition) -> float:
    """Return the propensity factor of an offer in the FULL view."""
    return next(factor.value for factor in shown.factors if factor.name == FACTOR_NAME_PROPENSITY)


@contextlib.contextmanager
def service(catalog: Catalog, second: int) -> Iterator[Service]:
    """Run a server of a catalogue and its learner, with state in a temporary SQLite file, from a second on."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offers-quality-")))
        document = folder / "catalog.binpb"
        write_fragments(document, [catalog])
        one = Service(second)
        served = stack.enter_context(serving(document, clock=one.clock, data_dir=folder / "data"))
        channel = stack.enter_context(grpc.insecure_channel(served.target, options=CHANNEL_OPTIONS))
        learner = Learner(
            served.stores.events, folder / "learning", offers_of(list((folder / "data" / "snapshots").iterdir()))
        )
        stack.callback(learner.close)
        one.begin(served, channel, learner)
        yield one


def parts(many: Sequence[_Sent], size: int) -> Iterator[Sequence[_Sent]]:
    """Yield parts of a size."""
    for first in range(0, len(many), size):
        yield many[first : first + size]
