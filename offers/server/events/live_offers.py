"""Looks up offers for the intake of events: their counters and budgets in the catalogues that are served."""

from collections.abc import Sequence

from offers.model.facts import OfferFacts, ProposedOffer
from offers.model.proposition_ids import Proposed
from offers.server.live import Live
from offers.state.ledger import Amounts, Demand, RedemptionCap


class LiveOffers:
    """An OfferLookup in the live engines."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def catalog(self, name: str) -> str:
        """See OfferLookup."""
        return self._live.engine(name).catalog_id

    def facts(self, catalog: str, offer_id: str, placement: str) -> OfferFacts | None:
        """See OfferLookup."""
        return self._live.engine(catalog).directory.of(offer_id, placement)

    def proposed(self, proposed: Proposed) -> ProposedOffer | None:
        """See OfferLookup."""
        found = (engine.directory.proposed(proposed) for engine in self._live.engines())
        return next((one for one in found if one is not None), None)

    def time_zone(self, catalog: str) -> str:
        """See OfferLookup."""
        zone: str = self._live.engine(catalog).snapshot.meta["time_zone"]
        return zone

    def demands(self, catalog: str, offer_id: str, amounts: Amounts, now: int) -> Sequence[Demand]:
        """See OfferLookup."""
        engine = self._live.engine(catalog)
        return engine.budgets.demands(engine.directory.budgets(offer_id), amounts, now)

    def caps(self, catalog: str, offer_id: str, second: int) -> Sequence[RedemptionCap]:
        """See RedemptionLimits."""
        return self._live.engine(catalog).directory.redemption_caps(offer_id, second)
