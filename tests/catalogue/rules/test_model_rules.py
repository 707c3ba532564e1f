"""Attributes of offers for models are checked, read from every kind of document, and compiled."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from google.type.latlng_pb2 import LatLng
from google.type.money_pb2 import Money
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue.check import check
from offers.catalogue.definitions import definitions
from offers.catalogue.document import write_document, write_fragments
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import Snapshot, open_snapshot
from offers.errors import CatalogError
from offers.model.hashing import key_of, signed
from offers.model.keys import key_of as number_of
from offers.model.visits import TRAITS, short, trait_of
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Benefit, Offer, Target
from offers.v1.ranking_pb2 import FactorWeights, Propensity, RankingStrategy
from offers.v1.venue_pb2 import Circle, Venue

HEAD = "catalog_id: shop\nvenues:\n- {venue_id: bar, point: {latitude: 1}, radius_m: 5}\n"
ASKING = "ranking_strategies: [{ranking_strategy_id: s, weights: {propensity: 1}}]\ndefault_ranking_strategy_id: s\n"
ONE = Offer(offer_id="a", title="T", benefit=Benefit(custom="a"), target=Target(everywhere=True))


def problems(folder: Path, text: str, *attributes: str) -> list[tuple[str, str]]:
    """Return the problems of a catalogue of offers with these attributes: field and reason."""
    offers = [
        f"- {{offer_id: o{number}, title: T, benefit: {{custom: a}}, target: {{everywhere: true}}, attributes: {one}}}"
        for number, one in enumerate([*attributes, "{}"])
    ]
    document = folder / "catalog.yaml"
    document.write_text("\n".join([HEAD + text, "offers:", *offers]), encoding="utf-8")
    try:
        check(document)
    except CatalogError as error:
        return [(one.field, one.reason) for one in error.problems]
    return []


@pytest.mark.parametrize(
    ("attributes", "field", "reason"),
    [
        ("{id: a}", "id", "'id' is what models know of every offer"),
        ("{campaign: a}", "campaign", "'campaign' is what models know of every offer"),
        ("{category: 1}", "category", "'category' is what models know of every offer"),
        ("{brand: true}", "brand", "'brand' is what models know of every offer"),
        ("{distance: 300}", "distance", "'distance' is what models know of every offer"),
        ("{cuisine: ''}", "cuisine", "missing"),
        (f"{{cuisine: {'x' * 129}}}", "cuisine", "has 129 characters"),
        (f"{{{'n' * 65}: a}}", "n" * 65, "has 65 characters"),
        ("{cuisine: [thai]}", "cuisine", "is no text, number, true or false"),
        ("{cuisine: {thai: 1}}", "cuisine", "is no text, number, true or false"),
        ("{cuisine: null}", "cuisine", "is no text, number, true or false"),
        ("{level: 1e999}", "level", "inf is not finite"),
    ],
)
def test_faulty_attribute_is_told(attributes: str, field: str, reason: str, tmp_path: Path) -> None:
    """An attribute that no model could learn from is a problem of its offer, named by the attribute."""
    ((path, told),) = problems(tmp_path, "", attributes)
    assert f"offers[0].attributes.{field}" == path
    assert reason in told


def test_longest_names_and_texts_are_allowed(tmp_path: Path) -> None:
    """64 characters of a name, 128 of a text, and any kind of value that has a key, are no problem."""
    kinds = "{" + "n" * 64 + ": " + "x" * 128 + ", level: -1.5e300, halal: false, zero: 0, naïve: thé}"
    assert [] == problems(tmp_path, "", kinds)


def test_seventeenth_name_is_told_once(tmp_path: Path) -> None:
    """A catalogue may have 16 names over all of its offers; the first one beyond is reported at its offer."""
    first, second = (json.dumps({f"a{number}": 1 for number in numbers}) for numbers in (range(10), range(6, 16)))
    assert [] == problems(tmp_path, "", first, second)
    found = problems(tmp_path, "", first, second, "{a16: 1, a17: 1}")
    assert [("offers[2].attributes.a16", "'a16' is the 17th name of attributes in the catalogue")] == found


@pytest.mark.parametrize(
    ("exploration", "field", "reason"),
    [
        ("{}", "method", "missing"),
        ("{max_loss: 0.5}", "method", "missing"),
        ("{method: METHOD_THOMPSON, epsilon: 0.5}", "epsilon", "is not asked for by METHOD_THOMPSON"),
        ("{method: METHOD_EPSILON_GREEDY, epsilon: 0}", "epsilon", "0 is not over 0 and at most 1"),
        ("{method: METHOD_EPSILON_GREEDY, epsilon: 1.01}", "epsilon", "1.01 is not over 0 and at most 1"),
        ("{method: METHOD_EPSILON_GREEDY, epsilon: .nan}", "epsilon", "'.nan' is not a finite number"),
        ("{method: METHOD_THOMPSON, max_loss: 1}", "max_loss", "1 is not over 0 and at most 0.99"),
        ("{method: METHOD_THOMPSON, max_loss: 0}", "max_loss", "0 is not over 0 and at most 0.99"),
        ("{method: METHOD_THOMPSON, new_offer_share: 0.6}", "new_offer_share", "0.6 is not over 0 and at most 0.5"),
        ("{method: METHOD_THOMPSON, new_offer_share: -0.1}", "new_offer_share", "-0.1 is not over 0 and at most 0.5"),
    ],
)
def test_faulty_exploration_is_told(exploration: str, field: str, reason: str, tmp_path: Path) -> None:
    """An exploration that cannot be used is a problem of the placement."""
    text = f"{ASKING}placements: [{{placement_id: p, exploration: {exploration}}}]"
    assert [(f"placements[0].exploration.{field}", reason)] == problems(tmp_path, text)


@pytest.mark.parametrize("weights", ["", ", weights: {recommendation: 1}", ", weights: {propensity: 0}"])
def test_exploration_needs_propensity(weights: str, tmp_path: Path) -> None:
    """Exploration varies propensities: where they do not count, or no strategy is named at all, it is a problem."""
    text = f"""
ranking_strategies: [{{ranking_strategy_id: s{weights}}}]
placements:
- {{placement_id: p, ranking_strategy_id: s, exploration: {{method: METHOD_THOMPSON, new_offer_share: 0}}}}
- {{placement_id: q, exploration: {{method: METHOD_EPSILON_GREEDY, epsilon: 1, max_loss: 0.99}}}}
"""
    reason = "has nothing to vary: propensity does not count in its strategy"
    assert [(f"placements[{one}].exploration", reason) for one in (0, 1)] == problems(tmp_path, text)


@pytest.mark.parametrize(
    ("interaction", "field", "reason"),
    [
        ("[hour]", "", "names 1 attributes, 1 of them different"),
        ("[hour, hour]", "", "names 2 attributes, 1 of them different"),
        ("[hour, place, person, channel, weekday]", "", "names 5 attributes, 5 of them different"),
        ("[hour, weather]", "[1]", "'weather' is no attribute that models know"),
        ("[hour, context.]", "[1]", "'context.' is no attribute that models know"),
        ("[session.x, hour]", "[0]", "'session.x' is no attribute that models know"),
    ],
)
def test_faulty_interaction_is_told(interaction: str, field: str, reason: str, tmp_path: Path) -> None:
    """An interaction that cannot be learned is a problem of the catalogue, at the attribute if that is at fault."""
    text = f"interactions: [{{attributes: [person, offer.id]}}, {{attributes: {interaction}}}]"
    assert [(f"interactions[1].attributes{field}", reason)] == problems(tmp_path, text)


def test_unknown_kinds_of_propensity_are_told(tmp_path: Path) -> None:
    """A number that is no reward, or no learner, is a problem of the strategy."""
    catalog = Catalog(catalog_id="shop")
    asked = Propensity(reward=7, learner=9)  # type: ignore[arg-type]
    catalog.ranking_strategies.append(RankingStrategy(ranking_strategy_id="s", propensity=asked))
    catalog.offers.append(ONE)
    write_document(tmp_path / "catalog.binpb", catalog)
    with pytest.raises(CatalogError) as raised:
        check(tmp_path / "catalog.binpb")
    told = [(one.field.split(".", 1)[1], one.reason) for one in raised.value.problems]
    assert [("propensity.reward", "7 is none of them"), ("propensity.learner", "9 is none of them")] == told


@pytest.mark.parametrize(
    ("scale", "field", "reason"),
    [
        ("{}", ".currency_code", "missing"),
        ("{currency_code: EUR}", "", "is 0"),
        ("{currency_code: eur, units: 1}", ".currency_code", "'eur' is not a currency code"),
        ("{currency_code: EUR, units: -1}", "", "is less than 0"),
        ("{currency_code: EUR, units: 1, nanos: -1}", ".nanos", "-1 has not the sign of units, 1"),
        ("{currency_code: EUR, units: .inf}", ".units", "'.inf' is not a whole number"),
    ],
)
def test_faulty_scale_of_order_values_is_told(scale: str, field: str, reason: str, tmp_path: Path) -> None:
    """A scale by which no order can be measured is a problem of the catalogue."""
    assert (f"order_value_scale{field}", reason) in problems(tmp_path, f"order_value_scale: {scale}")


def test_order_values_need_a_scale(tmp_path: Path) -> None:
    """Every strategy that uses order values without a scale is reported, also one that only a variant names."""
    text = """
ranking_strategies:
- {ranking_strategy_id: s, propensity: {reward: REWARD_ORDER_VALUE}}
- {ranking_strategy_id: t, propensity: {reward: REWARD_REDEMPTION}}
- {ranking_strategy_id: u, weights: {propensity: 1}, propensity: {reward: REWARD_ORDER_VALUE}}
experiments:
- experiment_id: e
  variants: [{variant_id: a}, {variant_id: b, ranking_strategy_id: u}]
"""
    reason = "REWARD_ORDER_VALUE has nothing to measure orders by: the catalogue has no order_value_scale"
    assert [(f"ranking_strategies[{one}].propensity.reward", reason) for one in (0, 2)] == problems(tmp_path, text)
    assert [] == problems(tmp_path, text + "order_value_scale: {currency_code: EUR, units: 50}")


def test_one_scale_holds_for_all_parts(tmp_path: Path) -> None:
    """The parts of a document may all have the scale, or only one of them; two that differ are reported with both."""
    asking = RankingStrategy(ranking_strategy_id="s", propensity=Propensity(reward=Propensity.REWARD_ORDER_VALUE))
    one, other = (Catalog(order_value_scale=Money(currency_code="EUR", units=units)) for units in (50, 20))
    parts = [Catalog(catalog_id="shop", offers=[ONE], ranking_strategies=[asking]), one]
    write_fragments(tmp_path / "catalog.binpb", [*parts, one])
    assert one.order_value_scale == check(tmp_path / "catalog.binpb").catalog.order_value_scale
    assert one.order_value_scale == definitions(tmp_path / "catalog.binpb").catalog.order_value_scale
    write_fragments(tmp_path / "catalog.binpb", [*parts, other])
    with pytest.raises(CatalogError) as raised:
        check(tmp_path / "catalog.binpb")
    ((problem),) = raised.value.problems
    told = """is 'currency_code: "EUR" units: 20', but 'currency_code: "EUR" units: 50' at"""
    assert "order_value_scale" in problem.field
    assert told in problem.reason


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".binpb"])
def test_attributes_are_the_same_in_every_kind_of_document(suffix: str, tmp_path: Path) -> None:
    """Texts, numbers, true and false come to models as they were written, whatever the file."""
    values: dict[str, str | float] = {
        "cuisine": "thé",
        "level": 2.5,
        "whole": 3,
        "halal": True,
        "true": "true",
        "digits": "12",
    }
    offer = {"offer_id": "a", "title": "T", "benefit": {"custom": "a"}, "target": {"everywhere": True}}
    content = {"catalog_id": "shop", "offers": [{**offer, "attributes": values}]}
    written = tmp_path / "written.json"
    written.write_text(json.dumps(content), encoding="utf-8")
    document = tmp_path / f"catalog{suffix}"
    if suffix == ".binpb":
        one = Offer()
        one.CopyFrom(ONE)
        for name, value in values.items():
            one.attributes[name] = value
        write_document(document, Catalog(catalog_id="shop", offers=[one], sensitive_attributes=["age", "creed"]))
    else:
        document.write_text(json.dumps(content) if suffix == ".json" else yaml.dump(content), encoding="utf-8")
    snapshot = open_snapshot(publish(document, tmp_path / "data").path)
    names = snapshot.meta["offer_attributes"]
    assert [f"offer.{name}" for name in ("id", "category", "brand", "campaign", *sorted(values))] == names
    own = {**values, "id": "a"}
    assert [key_of(name, own.get(name.removeprefix("offer."))) for name in names] == snapshot.columns[
        "offer_key"
    ].tolist()
    assert (["age", "creed"] if suffix == ".binpb" else []) == snapshot.meta["sensitive"]


def compiled(folder: Path, catalog: Catalog) -> Snapshot:
    """Publish a catalogue and open it."""
    write_document(folder / "catalog.binpb", catalog)
    return open_snapshot(publish(folder / "catalog.binpb", folder / "data").path)


HERE = LatLng(latitude=1)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=12)
VALUES = TEXTS | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["2", 3.0, -0.0])
ATTRIBUTES = st.dictionaries(st.sampled_from([*TRAITS[1:2], "price_band", "level", "naïve", "x y"]), VALUES, max_size=4)
TARGETS = st.sampled_from(
    [
        Target(everywhere=True),
        Target(venue_ids=["v"]),
        Target(venue_ids=["v"], radius_m=7),
        Target(venue_ids=["v", "w"]),
        Target(venue_ids=["v"], circles=[Circle(center=HERE, radius_m=5)]),
    ]
)
OFFERS = st.builds(
    lambda target, category, brand, campaign, attributes: (target, category, brand, campaign, attributes),
    TARGETS, st.sampled_from(["", "lunch", "thé"]), st.sampled_from(["", "lunch"]), st.sampled_from(["", "k"]),
    ATTRIBUTES,
)  # fmt: skip


@settings(max_examples=25)
@given(st.lists(OFFERS, min_size=1, max_size=12))
def test_columns_say_what_offers_say(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[Any, ...]]) -> None:
    """Keys, numbers, items and traits are those of each offer, whatever order the snapshot puts them in."""
    catalog = Catalog(catalog_id="shop", venues=[Venue(venue_id=one, point=HERE, radius_m=5) for one in "vw"])
    catalog.campaigns.add(campaign_id="k")
    for number, (target, category, brand, campaign, attributes) in enumerate(drawn):
        offer = catalog.offers.add(offer_id=f"o{number}", title="T", benefit=Benefit(custom="a"), target=target)
        offer.category, offer.brand, offer.campaign_id = category, brand, campaign
        if attributes or number % 2:
            offer.attributes.update(attributes)
    snapshot = compiled(tmp_path_factory.mktemp("columns"), catalog)
    names, columns, count = snapshot.meta["offer_attributes"], snapshot.columns, len(drawn)
    assert len(set(names)) == len(names)
    keys, numbers = columns["offer_key"].reshape(count, -1), columns["offer_number"].reshape(count, -1)
    traits = columns["trait"].reshape(count, -1)
    places = {int(key): place for place, key in enumerate(columns["offer"]["key"])}
    for offer in catalog.offers:
        own_key = number_of("offer", "shop", offer.offer_id)
        place = places[own_key]
        own = dict(offer.attributes.items())
        own |= {"id": offer.offer_id, "category": offer.category, "brand": offer.brand, "campaign": offer.campaign_id}
        values = [own.get(name.removeprefix("offer.")) for name in names]
        assert [key_of(name, value) for name, value in zip(names, values, strict=True)] == keys[place].tolist()
        expected = [value if isinstance(value, (bool, float)) else math.nan for value in values]
        np.testing.assert_array_equal(expected, numbers[place])
        is_one_venue = list(offer.target.venue_ids) == ["v"] and not offer.target.circles
        assert (number_of("venue", "shop", "v") if is_one_venue else own_key) == columns["item"][place]
        named = [own.get(kind, "") for kind in TRAITS]
        texts = [value if isinstance(value, str) else "" for value in named]
        assert [int(short(trait_of(kind, text))) for kind, text in zip(TRAITS, texts, strict=True)] == traits[
            place
        ].tolist()


def test_weights_of_models_are_nothing_unless_named(tmp_path: Path) -> None:
    """A strategy uses no model unless it gives it weight; its reward and learner are in the snapshot."""
    catalog = Catalog(catalog_id="shop", offers=[ONE])
    catalog.ranking_strategies.extend([
        RankingStrategy(ranking_strategy_id="a"),
        RankingStrategy(
            ranking_strategy_id="b", weights=FactorWeights(propensity=2, recommendation=0.5),
            propensity=Propensity(reward=Propensity.REWARD_REDEMPTION, learner=Propensity.LEARNER_TREES),
        ),
        RankingStrategy(ranking_strategy_id="c", propensity=Propensity(reward=Propensity.REWARD_ORDER_VALUE)),
    ])  # fmt: skip
    catalog.order_value_scale.CopyFrom(Money(currency_code="EUR", units=50))
    found = compiled(tmp_path, catalog).columns["strategies"]
    assert [[0.0, 0.0], [0.0, 0.0], [2.0, 0.5], [0.0, 0.0]] == found["weights"][:, 7:].tolist()
    assert [(1, 1), (1, 1), (2, 2), (3, 1)] == [(int(one["reward"]), int(one["learner"])) for one in found]


def test_keys_of_texts_are_signed_nowhere_else() -> None:
    """The same 64 bits stand for a key, signed or not."""
    assert [-1, 2**63 - 1, -(2**63)] == [signed(key) for key in (2**64 - 1, 2**63 - 1, 2**63)]


def test_interactions_over_attributes_that_another_document_marks_are_refused(tmp_path: Path) -> None:
    """Of a folder, each document's sensitive attributes hold for the interactions of all."""
    folder = tmp_path / "shop"
    folder.mkdir()
    offer = "offers: [{offer_id: o, title: T, benefit: {custom: a}, target: {everywhere: true}}]\n"
    (folder / "a.yaml").write_text("interactions: [{attributes: [hour, profile.faith]}]\n" + offer)
    (folder / "b.yaml").write_text("catalog_id: shop\nsensitive_attributes: [faith]\n")
    with pytest.raises(CatalogError) as raised:
        check(folder)
    (problem,) = raised.value.problems
    assert ("interactions[0].attributes[1]", "uses the sensitive attribute 'faith'") == (problem.field, problem.reason)
    (folder / "b.yaml").write_text("catalog_id: shop\nsensitive_attributes: [party]\n")
    check(folder)
