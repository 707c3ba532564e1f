"""The part of the specification that says which experiments and holdouts have a part in a decision."""

from collections.abc import Iterable, Sequence

from offers.decision.reference.people import (
    KnownPerson,
    against,
    campaign_of,
    contents_of,
    outside,
    share_of,
    strategy_of,
    variants_of,
)
from offers.model.keys import key_of
from offers.model.query import Query
from offers.v1.catalog_pb2 import Catalog, Placement
from offers.v1.limits_pb2 import Campaign
from offers.v1.offer_pb2 import Offer
from offers.v1.offer_service_pb2 import REASON_CODE_OTHER_VARIANT


def exposures_of(
    catalog: Catalog, query: Query, known: KnownPerson, here: Sequence[Offer], shown: Iterable[Offer]
) -> list[tuple[str, str]]:
    """Return the experiments that have a part in a decision, with the person's variants.

    `here` are the offers that may be shown here and now, whoever asks; `shown` are those of the answer. An experiment
    has a part if any of this holds:

    1. An offer that its variants may let in would be shown with one of them, everything else being as it is; fallbacks
       only if no other offer qualifies.
    2. Several offers qualify, it may replace the strategy, and no experiment before it does so for the person.
    3. An offer of the answer has content for its variants that the person would see with one of them.
    """
    variants, channel = variants_of(catalog, query, known), _channel_of(catalog, query)
    eligible = [one for one in here if not against(catalog, one, query, channel, known)]
    has_proper = any(not one.fallback for one in eligible)
    contested = sum(not (one.fallback and has_proper) for one in eligible) > 1
    found = []
    for experiment in catalog.experiments:
        name = experiment.experiment_id
        if name not in variants:
            continue
        lets_in = any(
            not (one.fallback and has_proper) and _may_let_in(catalog, one, query, known, name) for one in here
        )
        ranks = contested and any(one.ranking_strategy_id for one in experiment.variants)
        before = list(catalog.experiments)[: list(catalog.experiments).index(experiment)]
        first = strategy_of(Catalog(experiments=before), variants)
        words = any(_may_choose_content(catalog, one, query, known, name) for one in shown)
        if lets_in or (ranks and not first) or words:
            found.append((name, variants[name]))
    return found


def holdouts_of(
    catalog: Catalog, query: Query, known: KnownPerson, here: Sequence[Offer]
) -> list[tuple[str, bool]]:  # fmt: skip
    """Return the holdouts that have a part in a decision: campaigns ("": the catalogue), and whether it holds out.

    `here` are the offers that may be shown here and now, whoever asks. A holdout has a part if an offer that it
    withholds would qualify without it; fallbacks only if no other offer qualifies.
    """
    channel = _channel_of(catalog, query)
    if known.draw == 0:
        return []

    def is_in(share: float, kind: str, name: str) -> bool:
        return share_of(known.draw, key_of(kind, catalog.catalog_id, name)) < share

    def without(campaign_id: str) -> list[Offer]:
        """Return the offers that qualify without a holdout."""
        other = Catalog()
        other.CopyFrom(catalog)
        for one in other.campaigns:
            if one.campaign_id == campaign_id:
                one.holdout = 0
        if not campaign_id:
            other.holdout = 0
        return [one for one in here if not against(other, one, query, channel, known)]

    has_proper = any(not one.fallback and not against(catalog, one, query, channel, known) for one in here)
    found = []
    if catalog.holdout and any(not one.fallback for one in without("")):
        found.append(("", is_in(catalog.holdout, "holdout", "")))
    for one in catalog.campaigns:
        withheld = [offer for offer in without(one.campaign_id) if offer.campaign_id == one.campaign_id]
        if one.holdout and any(not (offer.fallback and has_proper) for offer in withheld):
            found.append((one.campaign_id, is_in(one.holdout, "campaign", one.campaign_id)))
    return found


def _channel_of(catalog: Catalog, query: Query) -> str:
    """Return the channel asked from; "": none is named."""
    placement = next((one for one in catalog.placements if one.placement_id == query.surface.placement), Placement())
    return query.surface.channel or placement.channel


def _may_let_in(catalog: Catalog, offer: Offer, query: Query, known: KnownPerson, experiment: str) -> bool:
    """Return whether variants of an experiment let the person see an offer, and nothing else is against it."""
    campaign = campaign_of(catalog, offer) or Campaign()
    variants, audiences = variants_of(catalog, query, known), (offer.audience, campaign.audience)
    names = [{one.experiment_id for one in audience.variants} for audience in audiences]
    fits = [
        any(variants.get(one.experiment_id) == one.variant_id for one in audience.variants) for audience in audiences
    ]
    failed = against(catalog, offer, query, _channel_of(catalog, query), known)
    return (
        any(experiment in some for some in names)
        and all(not some or fit or experiment in some for some, fit in zip(names, fits, strict=True))
        and all(one.reason == REASON_CODE_OTHER_VARIANT for one in failed)
    )


def _may_choose_content(catalog: Catalog, offer: Offer, query: Query, known: KnownPerson, experiment: str) -> bool:
    """Return whether variants of an experiment decide which content of an offer the person sees."""
    for one in contents_of(offer, query, _channel_of(catalog, query)):
        failed = list(outside(one.audience, "", catalog, query, known))
        if any(each.reason != REASON_CODE_OTHER_VARIANT for each in failed):
            continue
        if any(each.experiment_id == experiment for each in one.audience.variants):
            return True
        if not failed:
            return False
    return False
