"""The definitions of a catalogue, to which its offers refer."""

from dataclasses import dataclass
from pathlib import Path

from offers.catalogue import document
from offers.v1.audience_pb2 import Segment
from offers.v1.behaviour_pb2 import Intent
from offers.v1.catalog_pb2 import Catalog, Daypart, Placement
from offers.v1.experiment_pb2 import Experiment
from offers.v1.limits_pb2 import Campaign, CategoryLimit, ContactPolicy
from offers.v1.ranking_pb2 import RankingStrategy
from offers.v1.trigger_pb2 import Trigger
from offers.v1.venue_pb2 import Venue, Zone

HEAD_FIELDS = (
    "catalog_id", "title", "time_zone", "country_code", "default_ranking_strategy_id", "holdout", "order_value_scale",
)  # fmt: skip
ID_NAMES = {
    "venues": "venue_id",
    "zones": "zone_id",
    "placements": "placement_id",
    "ranking_strategies": "ranking_strategy_id",
    "dayparts": "daypart_id",
    "segments": "segment_id",
    "campaigns": "campaign_id",
    "category_limits": "category",
    "contact_policies": "contact_policy_id",
    "experiments": "experiment_id",
    "intents": "intent_id",
    "triggers": "trigger_id",
}
"""The field with the id, for each list of definitions."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """The definitions of a catalogue by id. Offers are not included: they are read one fragment at a time."""

    catalog: Catalog
    """The merged single values, the sensitive attributes and the interactions. All other lists are empty."""
    venues: dict[str, Venue]
    zones: dict[str, Zone]
    placements: dict[str, Placement]
    ranking_strategies: dict[str, RankingStrategy]
    dayparts: dict[str, Daypart]
    segments: dict[str, Segment]
    campaigns: dict[str, Campaign]
    category_limits: dict[str, CategoryLimit]
    contact_policies: dict[str, ContactPolicy]
    experiments: dict[str, Experiment]
    intents: dict[str, Intent]
    triggers: dict[str, Trigger]


def head_of(catalog: Catalog) -> Catalog:
    """Return the single values of a catalogue that are set."""
    return Catalog(**{one.name: value for one, value in catalog.ListFields() if one.name in HEAD_FIELDS})


def definitions(source: Path) -> Definitions:
    """Read the definitions of a document without checking them, for callers that run `check` at the same time."""
    head, kept = Catalog(), Catalog()
    for fragment in document.read(source, [], offers=False, unknown=False):
        head.MergeFrom(head_of(fragment.catalog))
        head.sensitive_attributes.extend(fragment.catalog.sensitive_attributes)
        head.interactions.extend(fragment.catalog.interactions)
        for name in ID_NAMES:
            getattr(kept, name).MergeFrom(getattr(fragment.catalog, name))
    return Definitions(
        head,
        **{
            name: {getattr(message, id_name): message for message in getattr(kept, name)}
            for name, id_name in ID_NAMES.items()
        },
    )
