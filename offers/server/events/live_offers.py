"""What the catalogues that are served know of an offer: what counts its events, and which budgets it draws on."""

from collections.abc import Sequence

from offers.model.facts import OfferFacts
from offers.server.live import Live
from offers.state.stores import Demand


class LiveOffers:
    """Looks offers up in the engines that are live."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def catalog(self, name: str) -> str:
        """See intake.Offers."""
        return self._live.engine(name).catalog_id

    def facts(self, catalog: str, offer_id: str, placement: str) -> OfferFacts | None:
        """See intake.Offers."""
        return self._live.engine(catalog).directory.of(offer_id, placement)

    def time_zone(self, catalog: str) -> str:
        """See intake.Offers."""
        zone: str = self._live.engine(catalog).snapshot.meta["time_zone"]
        return zone

    def demands(
        self, catalog: str, offer_id: str, units: int, micros: int, currency: str, now: int
    ) -> Sequence[Demand]:
        """See intake.Offers."""
        engine = self._live.engine(catalog)
        return engine.budgets.demands(engine.directory.budgets(offer_id), units, micros, currency, now)
