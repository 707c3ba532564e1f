"""Decides logged decisions again, by an engine over a catalogue document.

The log has the instant, the surface, attributes, the entry channel, and the location as coarse as its geohash. It does
not have what the person did before (for caps, baskets, intents and habits), the rest of the visit, nor a seed: these
count as absent. Budgets are never exhausted. Nothing is explored.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from google.type.latlng_pb2 import LatLng

from offers.catalogue.check import Checked, check
from offers.catalogue.compile.compiler import compile_snapshot
from offers.catalogue.compile.messages import read_messages
from offers.catalogue.document import read, write_fragments
from offers.catalogue.publish import fingerprint
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.decision.kernels.memory.scratch import Scratchpad
from offers.decision.kernels.person.meet import AGREED, NAMED, TAUGHT
from offers.decision.person import Person
from offers.decision.segments.evaluate import Facts
from offers.errors import OffersError
from offers.learning.model import Model
from offers.learning.values import Sum, sum_of
from offers.model.geohash import centre_of
from offers.model.query import DEFAULT_MAX_OFFERS, Query, Surface
from offers.v1.catalog_pb2 import Catalog
from offers.v1.context_pb2 import Context, Session, User
from offers.v1.offer_pb2 import Offer
from offers.v1.offer_service_pb2 import GetOffersRequest
from offers.v1.profile_pb2 import Profile
from offers.v1.state_pb2 import DecisionRecord, UserState


class UnknownStrategyError(OffersError):
    """A catalogue has no such strategy."""


class Replay:
    """Decides over one catalogue, with or without a model."""

    def __init__(self, checked: Checked, engine: Engine, model: Model | None) -> None:
        self.checked, self.engine, self.model = checked, engine, model
        engine.use(model)
        self._pad = Scratchpad()

    @property
    def scale(self) -> Sum | None:
        """The catalogue's scale of order values; None where it has none."""
        catalog = self.checked.catalog
        return sum_of(catalog.order_value_scale) if catalog.HasField("order_value_scale") else None

    def answer(self, told: DecisionRecord, second: int) -> list[str]:
        """Return the offers to show, best first, in a decision that was made at a second.

        Raises InvalidRequestError where the catalogue has no such placement.
        """
        time = told.time or second
        context = context_of(told, time)
        known = UserState(draw=told.draw, profile=Profile(attributes=told.profile_attributes))
        surface = Surface(
            told.time_zone, told.placement, told.channel, told.language_code.lower(), told.currency_code,
            told.max_offers or DEFAULT_MAX_OFFERS,
        )  # fmt: skip
        point = context.location.point
        place = (point.latitude, point.longitude) if told.geohash else ()
        is_known = bool(told.draw or told.profile_attributes.fields)
        person = Person(
            draw=told.draw,
            record=known.SerializeToString() if is_known else b"",
            request=GetOffersRequest(context=context).SerializeToString(),
            flags=AGREED | TAUGHT | (NAMED if is_known else 0),
            facts=lambda: Facts(User(), context.session, context, known.profile, time),
        )
        count = self.engine.decide(Query(surface, time, *place), self._pad, person, len(told.geohash)).count
        entries = self._pad.arrays["chosen"]["entry"][:count]
        offers = self.engine.snapshot.columns["entry"]["offer"][entries].tolist()
        return [self.engine.directory.offer_id(one) for one in offers]

    def offers(self, offer_ids: Iterable[str]) -> dict[str, Offer]:
        """Return some offers by their ids, without those that the catalogue does not have."""
        return {one.offer_id: one for one in read_messages(self.engine.snapshot.path, offer_ids).offers}


@contextmanager
def replaying(source: Path, strategy: str = "", model: Model | None = None) -> Iterator[Replay]:
    """Open a document for deciding, with one of its strategies in place of all others ("": as they are).

    Raises CatalogError with every problem of the document, and UnknownStrategyError.
    """
    checked = check(source)
    if strategy and strategy not in checked.ranking_strategies:
        known = ", ".join(checked.ranking_strategies) or "none"
        raise UnknownStrategyError(f"'{strategy}': of strategies {source} has {known}")
    with TemporaryDirectory(prefix="offers-whatif-") as folder:
        document, snapshot = Path(folder, "catalog.binpb"), Path(folder, "snapshot")
        write_fragments(document, (_changed(one.catalog, strategy) for one in read(source, [], unknown=False)))
        compile_snapshot(document, snapshot, fingerprint(document))
        yield Replay(checked, Engine(open_snapshot(snapshot)), model)


def _changed(catalog: Catalog, strategy: str) -> Catalog:
    """Change a part of a catalogue to explore nothing, and to rank by one strategy everywhere ("": as it says)."""
    for placement in catalog.placements:
        placement.ClearField("exploration")
    if strategy:
        catalog.default_ranking_strategy_id = strategy
        for placement in catalog.placements:
            placement.ClearField("ranking_strategy_id")
        for experiment in catalog.experiments:
            for variant in experiment.variants:
                variant.ClearField("ranking_strategy_id")
    return catalog


def context_of(told: DecisionRecord, time: int) -> Context:
    """Return the context of a logged decision made for an instant, as far as the log has it."""
    context = Context(
        time_zone=told.time_zone, channel=told.channel, language_code=told.language_code,
        currency_code=told.currency_code, attributes=told.context_attributes,
    )  # fmt: skip
    context.time.seconds = time
    if told.entry_channel:
        context.session.CopyFrom(Session(entry_channel=told.entry_channel))
    if told.geohash:
        latitude, longitude = centre_of(told.geohash)
        context.location.point.CopyFrom(LatLng(latitude=latitude, longitude=longitude))
    return context
