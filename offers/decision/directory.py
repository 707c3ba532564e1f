"""Directory: looks offers up by id, with the counters of their events and the budgets they draw on."""

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from offers.caching import cached
from offers.catalogue.snapshot import NO_AUDIENCE, NO_BUDGET, NO_CAPS, NO_NAME
from offers.decision.calendar import period_of
from offers.model.facts import CounterSpec, OfferFacts, ProposedOffer
from offers.model.keys import key_of
from offers.model.proposition_ids import Proposed, surface_bits
from offers.model.visits import TRAITS
from offers.state.ledger import RedemptionCap
from offers.state.stores import EVER
from offers.v1.limits_pb2 import CalendarPeriod
from offers.v1.offer_service_pb2 import Proposition

MAX_ID = 128
IDS_KEPT = 16_384
"""Ids kept of the offers asked for last."""
FACTS_KEPT = 10_000
"""Facts kept of the offers asked for last, per placement. They belong to the snapshot, and go with it."""
_DAY_S = 86_400
_LONGEST_S = {
    CalendarPeriod.CALENDAR_PERIOD_DAY: 2 * _DAY_S,
    CalendarPeriod.CALENDAR_PERIOD_WEEK: 8 * _DAY_S,
    CalendarPeriod.CALENDAR_PERIOD_MONTH: 32 * _DAY_S,
}
"""Upper bounds of the periods' lengths in seconds, clock changes included."""


class Directory:
    """The offers of one snapshot by id."""

    def __init__(self, catalog_id: str, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        self._catalog_id = catalog_id
        self._columns = columns
        self.offer_id = cached(self._offer_id, IDS_KEPT)
        """Return the id of an offer, given its index."""
        self.of = cached(self._of, FACTS_KEPT)
        """Return the counters of an offer's events in a placement ("": unknown); None if there is no such offer."""
        self._periods: list[int] = [kind for kind, _ in meta["periods"]]
        self._zoned: list[tuple[int, str]] = meta["periods"]
        self._campaigns: list[str] = meta["campaigns"]
        self._redeemed: dict[int, int] = dict(meta.get("redemption_caps", ()))
        """By list of caps, how many at its end are redemption caps."""
        self._placement_caps: dict[str, int] = meta["placement_caps"]
        self._placement_keys: dict[str, int] = meta["placement_keys"]
        self._channels = {name: placing["channel"] for name, placing in meta["placements"].items()}
        self._terms = meta["terms"]

    @cached_property
    def _named(self) -> tuple[dict[int, str], dict[int, str]]:
        """The placements and channels that the catalogue names, by their bits in proposition ids."""
        channels = {channel for *_, some in self._terms for channel in some}.union(self._channels.values())
        return (
            {surface_bits("placement", placement): placement for placement in self._channels},
            {surface_bits("channel", channel): channel for channel in channels},
        )

    def number_of(self, offer_id: str) -> int | None:
        """Return the index of an offer; None if the catalogue has no offer of that id."""
        return self._number_of(key_of("offer", self._catalog_id, offer_id))

    def proposed(self, proposed: Proposed) -> ProposedOffer | None:
        """Return the offer that a proposition id names; None if it is none of this catalogue's."""
        number = self._number_of(proposed.offer_key)
        if number is None:
            return None
        placements, channels = self._named
        placement = placements.get(proposed.placement, "")
        channel = channels.get(proposed.channel, "")
        return ProposedOffer(self._catalog_id, self.offer_id(number), placement, channel)

    def _number_of(self, key: int) -> int | None:
        by_key, keys = self._columns["offer_by_key"], self._columns["offer"]["key"]
        low = bisect_left(by_key, key, key=keys.__getitem__)
        if low == len(by_key) or keys[by_key[low]] != key:
            return None
        return int(by_key[low])

    def _offer_id(self, number: int) -> str:
        """Read the id of an offer: the first field of its bytes, if it has under 128 characters of ASCII."""
        begin = int(self._columns["offer"]["wire_first"][number])
        head = self._columns["wire"][begin : begin + 2 + MAX_ID].tobytes()
        return head[2 : 2 + head[1]].decode() if head[1] < 128 else self.proposition(number).offer_id

    def proposition(self, number: int) -> Proposition:
        """Return the fields of an offer that every decision returns alike."""
        offer = self._columns["offer"][number]
        begin = int(offer["wire_first"])
        return Proposition.FromString(self._columns["wire"][begin : begin + int(offer["wire_size"])].tobytes())

    def _of(self, offer_id: str, placement: str) -> OfferFacts | None:
        """Collect the facts of an offer in a placement."""
        number = self.number_of(offer_id)
        if number is None:
            return None
        offer, told = self._columns["offer"][number], self.proposition(number)
        specs = self._specs(int(offer["key"]), int(offer["caps"]))
        if placement in self._placement_caps:
            specs += self._specs(self._placement_keys[placement], self._placement_caps[placement])
        if offer["audience"] != NO_AUDIENCE:
            audience = self._columns["audience"][offer["audience"]]
            if audience["campaign"] != NO_NAME:
                specs += self._shared("campaign", int(audience["campaign"]))
            if audience["category"] != NO_NAME:
                specs += self._shared("category_limit", int(audience["category"]))
            for index in range(audience["policy_first"], audience["policy_last"]):
                specs += self._shared("policy", int(self._columns["audience_policy"][index]))
        item, traits = self.item(number)
        return OfferFacts(offer_id, told.category, told.brand, tuple(specs), item, traits)

    def item(self, number: int) -> tuple[int, tuple[int, ...]]:
        """Return the item that visits of an offer count for, and its traits."""
        traits = self._columns["trait"][len(TRAITS) * number : len(TRAITS) * (number + 1)]
        return int(self._columns["item"][number]), tuple(traits.tolist())

    def budgets(self, offer_id: str) -> list[int]:
        """Return the indices of the budgets that an offer's redemptions take from; none if there is no such offer."""
        number = self.number_of(offer_id)
        if number is None or self._columns["offer"]["audience"][number] == NO_AUDIENCE:
            return []
        audience = self._columns["audience"][self._columns["offer"]["audience"][number]]
        found = [int(audience["budget"])]
        if audience["campaign"] != NO_NAME:
            found.append(int(self._columns["campaign"]["budget"][audience["campaign"]]))
        return [budget for budget in found if budget != NO_BUDGET]

    def redemption_caps(self, offer_id: str, second: int) -> list[RedemptionCap]:
        """Return the redemption caps of an offer and its campaign, with their windows around a second."""
        number = self.number_of(offer_id)
        if number is None:
            return []
        offer = self._columns["offer"][number]
        found = self._redemption_caps(f"offer {offer_id}", int(offer["key"]), int(offer["caps"]), second)
        if offer["audience"] != NO_AUDIENCE:
            index = self._columns["audience"][offer["audience"]]["campaign"]
            if index != NO_NAME:
                campaign, name = self._columns["campaign"][index], self._campaigns[index]
                whose, key = f"campaign {name}", int(campaign["key"])
                found += self._redemption_caps(whose, key, int(campaign["caps"]), second)
        return found

    def _redemption_caps(self, whose: str, key: int, caps: int, second: int) -> list[RedemptionCap]:
        """Return the redemption caps in a list of caps: the last of the list."""
        if caps not in self._redeemed:
            return []
        found, first = [], self._columns["cap_list_first"]
        for cap in self._columns["cap"][first[caps + 1] - self._redeemed[caps] : first[caps + 1]]:
            begin, end, rolling_s, most = 0, EVER, int(cap["seconds"]), int(cap["max_count"])
            window = f"{rolling_s:,} s" if rolling_s else "all"
            if cap["period"] != NO_NAME:
                kind, zone = self._zoned[cap["period"]]
                begin, end = period_of(kind, zone, second)
                window = f"a {CalendarPeriod.Name(kind).removeprefix('CALENDAR_PERIOD_').lower()}"
            found.append(RedemptionCap(f"{most:,} in {window} ({whose})", key, most, begin, end, rolling_s))
        return found

    def _shared(self, column: str, number: int) -> list[CounterSpec]:
        """Return the counters of a limit that offers share: a campaign, a category limit or a policy."""
        limit = self._columns[column][number]
        return self._specs(int(limit["key"]), int(limit["caps"]))

    def _specs(self, key: int, caps: int) -> list[CounterSpec]:
        """Return the counters that a list of caps needs under a key, one per kind of event."""
        if caps == NO_CAPS:
            return []
        first = self._columns["cap_list_first"]
        keep: dict[int, int] = {}
        spans: dict[int, int] = {}
        for cap in self._columns["cap"][first[caps] : first[caps + 1]]:
            kind = int(cap["kind"])
            keep[kind] = max(keep.get(kind, 0), int(cap["max_count"]))
            span = int(cap["seconds"])
            if span == 0 and cap["period"] != NO_NAME:
                span = _LONGEST_S[self._periods[cap["period"]]]
            is_ever = span == 0 or spans.get(kind) == 0
            spans[kind] = 0 if is_ever else max(spans.get(kind, 0), span)
        return [CounterSpec(key, kind, keep[kind], spans[kind]) for kind in keep]
