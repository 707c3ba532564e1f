"""Audiences, campaigns, caps, contact policies, budgets and creative variants as rows of a snapshot."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from google.type.interval_pb2 import Interval
from numpy.typing import NDArray

from offers.catalogue import snapshot
from offers.catalogue.compile.behaviour import conditions
from offers.catalogue.compile.columns import csr, table
from offers.catalogue.compile.timetable import Timetable
from offers.catalogue.definitions import Definitions
from offers.catalogue.hours.schedules import NEVER
from offers.catalogue.rules.messages import concerns_people
from offers.catalogue.snapshot import NO_AUDIENCE, NO_BUDGET, NO_CAPS, NO_NAME, NO_SCHEDULE
from offers.model.keys import key_of
from offers.model.money import micros_of
from offers.v1.audience_pb2 import Audience
from offers.v1.event_pb2 import EVENT_KIND_DISMISSAL, EVENT_KIND_IMPRESSION, EVENT_KIND_REDEMPTION
from offers.v1.limits_pb2 import PACING_AS_FAST_AS_POSSIBLE, Budget, Campaign, ContactPolicy, FrequencyCap
from offers.v1.offer_pb2 import Offer

Span = tuple[int, int]
"""Seconds since 1970; the end is exclusive, and NEVER if there is none."""
ALWAYS: Span = (0, NEVER)
NO_LIMIT = -1
Terms = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Placements, languages (lower case), currencies and channels, each sorted; empty means any."""
Creatives = list[tuple[tuple[str, ...], tuple[str, ...], int, bytes]]
"""The creative variants of an offer in the order they are tried: languages, channels, number of the audience, wire."""


class _Audience(NamedTuple):
    """The content of a row of snapshot.AUDIENCE."""

    any: tuple[int, ...] = ()
    all: tuple[int, ...] = ()
    none: tuple[int, ...] = ()
    variants: tuple[tuple[int, int], ...] = ()
    wanted: tuple[int, ...] = ()
    named: tuple[int, ...] = ()
    policies: tuple[int, ...] = ()
    campaign: int = NO_NAME
    category: int = NO_NAME
    budget: int = NO_BUDGET


_Cap = tuple[int, int, int, int, int]
"""A record of snapshot.CAP: seconds, number of events, number of the period, kind of event, terms of its channels."""
_CapList = tuple[tuple[_Cap, ...], tuple[_Cap, ...]]
"""Caps on being shown, and redemption caps."""


def span_of(window: Interval) -> Span:
    """Return a window in seconds, with an open start as 0 and an open end as NEVER."""
    return window.start_time.seconds, window.end_time.seconds if window.HasField("end_time") else NEVER


class Audiences:
    """The distinct audiences, caps, budgets and creative variants of a catalogue, numbered as they are added."""

    def __init__(self, checked: Definitions, timetable: Timetable, terms: dict[Terms, int]) -> None:
        self._checked = checked
        self._catalog_id = checked.catalog.catalog_id
        self._timetable = timetable
        self._terms = terms
        self._segments = _numbered(checked.segments)
        self._campaigns = _numbered(checked.campaigns)
        self._categories = _numbered(checked.category_limits)
        self._variants = {
            (name, variant.variant_id): (number, place)
            for number, (name, experiment) in enumerate(checked.experiments.items())
            for place, variant in enumerate(experiment.variants)
        }
        self._runs_for = [
            {self._segments[one] for one in experiment.segment_ids} for experiment in checked.experiments.values()
        ]
        self._audiences: dict[_Audience, int] = {}
        self._periods: dict[tuple[int, str], int] = {}
        self._caps: dict[_CapList, int] = {}
        self._budgets: list[dict[str, Any]] = []
        self._creative_terms: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
        self._creatives: dict[int, Creatives] = {}
        self._covered: dict[tuple[str, str], tuple[int, ...]] = {}
        self._policies = [self._policy(policy) for policy in checked.contact_policies.values()]
        self._limits = [
            (key_of("category", self._catalog_id, name), self._cap_list(map(self._cap, limit.frequency_caps)))
            for name, limit in checked.category_limits.items()
        ]
        self._placements = {
            name: self._cap_list(map(self._cap, placement.frequency_caps))
            for name, placement in checked.placements.items()
            if placement.frequency_caps
        }
        self._campaign_rows = [self._campaign_row(campaign) for campaign in checked.campaigns.values()]
        categories = {*checked.category_limits}
        self._all_covered = False
        for policy in checked.contact_policies.values():
            categories.update(policy.categories)
            self._all_covered |= not (policy.campaign_ids or policy.categories)
        self._limited = frozenset(categories)

    def concern(self, offer: Offer) -> bool:
        """Return whether an offer has an audience or limits. This runs for a million offers, and most have none."""
        return self._all_covered or offer.category in self._limited or concerns_people(offer)

    def window(self, offer: Offer) -> Span:
        """Return the window of an offer's campaign."""
        return span_of(self._checked.campaigns[offer.campaign_id].window) if offer.campaign_id else ALWAYS

    def add(self, number: int, offer: Offer, window: Span, wires: list[bytes]) -> tuple[int, int]:
        """Add an offer and return the numbers of its audience and its caps.

        `number` is that of the offer, and `wires` are those of its creative variants, in document order. A budget
        without a period is spread over `window`, in which the offer is shown.
        """
        creatives = []
        own = self._read(offer.audience)
        wanted, named = {*own.wanted}, {*own.named}
        for variant, wire in zip(offer.creative_variants, wires, strict=True):
            languages = tuple(sorted({tag.lower() for tag in variant.language_codes}))
            creatives.append((languages, tuple(sorted(set(variant.channels))), self._audience(variant.audience), wire))
            theirs = self._read(variant.audience)
            wanted.update(theirs.wanted)
            named.update(theirs.named)
        if creatives:
            self._creatives[number] = sorted(creatives, key=lambda one: (one[2] == NO_AUDIENCE, not one[0], not one[1]))
        if offer.campaign_id:
            theirs = self._read(self._checked.campaigns[offer.campaign_id].audience)
            wanted.update(theirs.wanted)
            named.update(theirs.named)
        policies = self._covering(offer.campaign_id, offer.category)
        budget = (
            self._budget(f"offer:{offer.offer_id}", offer.budget, window) if offer.HasField("budget") else NO_BUDGET
        )
        row = own._replace(
            wanted=tuple(sorted(wanted)),
            named=tuple(sorted(named)),
            policies=policies,
            campaign=self._campaigns.get(offer.campaign_id, NO_NAME),
            category=self._categories.get(offer.category, NO_NAME),
            budget=budget,
        )
        caps = [*map(self._cap, offer.frequency_caps)]
        for *_, channels, seconds in (self._policies[policy] for policy in policies):
            if seconds:
                caps.append(_dismissal(seconds, channels))
        audience = NO_AUDIENCE if row == _Audience() else self._audiences.setdefault(row, len(self._audiences))
        return audience, self._cap_list(caps, map(self._redemption_cap, offer.redemption_caps))

    def columns(self, columns: dict[str, NDArray[Any]], keys: dict[int, int]) -> dict[str, NDArray[Any]]:
        """Return the arrays, given the arrays of offers and the keys of the offers with creative variants by number."""
        rows = list(self._audiences)
        segments: list[int] = []
        firsts: list[tuple[int, ...]] = []
        for row in rows:
            first = []
            for part in (row.any, row.all, row.none, row.wanted):
                first.append(len(segments))
                segments += part
            firsts.append((*first, len(segments)))
        variants, policies = csr([len(row.variants) for row in rows]), csr([len(row.policies) for row in rows])
        named = csr([len(row.named) for row in rows])
        audiences = [
            (
                *first,
                *variants[i : i + 2],
                *named[i : i + 2],
                *policies[i : i + 2],
                row.campaign,
                row.category,
                row.budget,
            )
            for i, (first, row) in enumerate(zip(firsts, rows, strict=True))
        ]
        return {
            "audience": table(snapshot.AUDIENCE, audiences),
            "audience_segment": np.array(segments, np.int64),
            "audience_variant": table(snapshot.VARIANT, (one for row in rows for one in row.variants)),
            "audience_experiment": np.array([one for row in rows for one in row.named], np.int64),
            "audience_policy": np.array([one for row in rows for one in row.policies], np.int64),
            "campaign": table(snapshot.CAMPAIGN, self._campaign_rows),
            "category_limit": table(snapshot.CATEGORY_LIMIT, self._limits),
            "policy": table(snapshot.POLICY, (policy[:-1] for policy in self._policies)),
            "cap": table(snapshot.CAP, (cap for shown, redeemed in self._caps for cap in shown + redeemed)),
            "cap_list_first": csr([len(shown + redeemed) for shown, redeemed in self._caps]),
            **self._creative_columns(columns, keys),
        }

    def creative_offers(self) -> list[int]:
        """Return the numbers of the offers with creative variants, in the order they were added."""
        return list(self._creatives)

    def meta(self) -> dict[str, Any]:
        """Return what is not columnar: names and the small tables the engine reads when it opens the snapshot."""
        checked, strategies = self._checked, {name: i for i, name in enumerate(self._checked.ranking_strategies, 1)}
        return {
            "segments": [
                {"id": name, "expression": one.expression, "sensitive": list(one.sensitive_use.attributes)}
                for name, one in conditions(checked).items()
            ],
            "sensitive_uses": sensitive_uses(checked),
            "experiments": [
                {
                    "id": name,
                    "layer": experiment.layer,
                    "share": experiment.share if experiment.HasField("share") else 1.0,
                    **dict(zip(("start", "end"), span_of(experiment.window), strict=True)),
                    "placements": list(experiment.placement_ids),
                    "segments": sorted({self._segments[one] for one in experiment.segment_ids}),
                    "variants": [
                        {
                            "id": variant.variant_id,
                            "weight": variant.weight if variant.HasField("weight") else 1.0,
                            "strategy": strategies.get(variant.ranking_strategy_id, NO_NAME),
                        }
                        for variant in experiment.variants
                    ],
                }
                for name, experiment in checked.experiments.items()
            ],
            "campaigns": list(checked.campaigns),
            "category_limits": list(checked.category_limits),
            "policies": [
                {"id": name, "channels": list(policy.channels)} for name, policy in checked.contact_policies.items()
            ],
            "periods": list(self._periods),
            "redemption_caps": [(number, len(redeemed)) for (_, redeemed), number in self._caps.items() if redeemed],
            "budgets": self._budgets,
            "creative_terms": list(self._creative_terms),
            "placement_caps": self._placements,
            "placement_keys": {name: key_of("placement", self._catalog_id, name) for name in self._placements},
            "holdout": checked.catalog.holdout,
        }

    def _creative_columns(self, columns: dict[str, NDArray[Any]], keys: dict[int, int]) -> dict[str, NDArray[Any]]:
        by_key, own = columns["offer_by_key"], columns["offer"]["key"]
        wanted = np.array([keys[number] for number in self._creatives], np.int64)
        places = by_key[np.searchsorted(own, wanted, sorter=by_key)] if len(wanted) else wanted
        numbers = dict(zip(self._creatives, places.tolist(), strict=True))
        rows, wires, first = [], [], 0
        for number in sorted(numbers, key=numbers.__getitem__):
            for languages, channels, audience, wire in self._creatives[number]:
                terms = self._creative_terms.setdefault((languages, channels), len(self._creative_terms))
                rows.append((first, len(wire), terms, audience, numbers[number]))
                wires.append(wire)
                first += len(wire)
        return {
            "creative": table(snapshot.CREATIVE, rows),
            "creative_wire": np.frombuffer(b"".join(wires), np.uint8),
        }

    def _read(self, audience: Audience) -> _Audience:
        """Return the row of an audience by itself, without campaign and limits."""
        any_of, all_of, none_of = (
            tuple(sorted({self._segments[name] for name in ids}))
            for ids in (audience.any_segment_ids, audience.all_segment_ids, audience.none_segment_ids)
        )
        variants = {self._variants[one.experiment_id, one.variant_id] for one in audience.variants}
        named = sorted({experiment for experiment, _ in variants})
        return _Audience(
            any_of,
            all_of,
            none_of,
            tuple(sorted(variants)),
            tuple(sorted({*any_of, *all_of, *none_of}.union(*(self._runs_for[one] for one in named)))),
            tuple(named),
        )

    def _audience(self, audience: Audience) -> int:
        """Number an audience by itself, as campaigns and creative variants have them."""
        row = self._read(audience)
        return NO_AUDIENCE if row == _Audience() else self._audiences.setdefault(row, len(self._audiences))

    def _covering(self, campaign_id: str, category: str) -> tuple[int, ...]:
        """Return the numbers of the contact policies that cover offers of a campaign and a category."""
        found = self._covered.get((campaign_id, category))
        if found is None:
            found = self._covered[campaign_id, category] = tuple(
                number
                for number, policy in enumerate(self._checked.contact_policies.values())
                if not (policy.campaign_ids or policy.categories)
                or (campaign_id and campaign_id in policy.campaign_ids)
                or (category and category in policy.categories)
            )
        return found

    def _policy(self, policy: ContactPolicy) -> tuple[int, int, int, int, int]:
        """Return a record of snapshot.POLICY, and the cool-down in seconds of a single dismissed offer."""
        caps = [*map(self._cap, policy.frequency_caps)]
        if policy.cool_down.seconds:
            caps.append(_dismissal(policy.cool_down.seconds))
        terms = ((), (), (), tuple(sorted(set(policy.channels))))
        quiet = self._timetable.personal(policy.quiet_hours) if policy.quiet_hours else NO_SCHEDULE
        return (
            key_of("contact_policy", self._catalog_id, policy.contact_policy_id),
            self._cap_list(caps),
            quiet,
            self._terms.setdefault(terms, len(self._terms)),
            policy.offer_cool_down.seconds,
        )

    def _campaign_row(self, campaign: Campaign) -> tuple[int, float, int, int, int]:
        """Return a record of snapshot.CAMPAIGN."""
        name, budget = campaign.campaign_id, NO_BUDGET
        redeemed = map(self._redemption_cap, campaign.redemption_caps)
        caps = self._cap_list(map(self._cap, campaign.frequency_caps), redeemed)
        audience = self._audience(campaign.audience)
        if campaign.HasField("budget"):
            budget = self._budget(f"campaign:{name}", campaign.budget, span_of(campaign.window))
        return key_of("campaign", self._catalog_id, name), campaign.holdout, caps, audience, budget

    def _cap(self, cap: FrequencyCap) -> _Cap:
        seconds, period = cap.rolling.seconds, NO_NAME
        if cap.WhichOneof("window") == "calendar":
            named = cap.calendar, cap.time_zone or self._timetable.time_zone
            period = self._periods.setdefault(named, len(self._periods))
        return seconds, cap.max_count, period, cap.kind or EVENT_KIND_IMPRESSION, NO_NAME

    def _redemption_cap(self, cap: FrequencyCap) -> _Cap:
        seconds, most, period, _, channels = self._cap(cap)
        return seconds, most, period, EVENT_KIND_REDEMPTION, channels

    def _cap_list(self, caps: Iterable[_Cap], redeemed: Iterable[_Cap] = ()) -> int:
        distinct = tuple(dict.fromkeys(caps)), tuple(dict.fromkeys(redeemed))
        return self._caps.setdefault(distinct, len(self._caps)) if any(distinct) else NO_CAPS

    def _budget(self, key: str, budget: Budget, window: Span) -> int:
        """Add a budget and return its number."""
        zone = budget.time_zone or self._timetable.time_zone
        self._budgets.append(
            {
                "key": key,
                "units": budget.units if budget.HasField("units") else NO_LIMIT,
                "micros": micros_of(budget.amount) if budget.HasField("amount") else NO_LIMIT,
                "currency": budget.amount.currency_code or budget.period_amount.currency_code,
                "period": budget.period,
                "period_units": budget.period_units if budget.HasField("period_units") else NO_LIMIT,
                "period_micros": micros_of(budget.period_amount) if budget.HasField("period_amount") else NO_LIMIT,
                "zone": zone,
                "pacing": budget.pacing or PACING_AS_FAST_AS_POSSIBLE,
                "start": window[0],
                "end": window[1],
            }
        )
        return len(self._budgets) - 1


def sensitive_uses(checked: Definitions) -> list[dict[str, Any]]:
    """Return the uses of sensitive attributes, for the log."""
    return [
        {
            "segment": name,
            "attributes": list(segment.sensitive_use.attributes),
            "reason": segment.sensitive_use.reason,
            "approved_by": segment.sensitive_use.approved_by,
        }
        for name, segment in conditions(checked).items()
        if segment.HasField("sensitive_use")
    ]


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """Return the position of each name."""
    return {name: number for number, name in enumerate(names)}


def _dismissal(seconds: int, channels: int = NO_NAME) -> _Cap:
    """Return a cool-down as a cap: at most one dismissal in so many seconds."""
    return seconds, 1, NO_NAME, EVENT_KIND_DISMISSAL, channels
