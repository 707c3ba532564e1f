"""A catalogue document is checked as a whole, and all its problems are reported at once."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from google.type.money_pb2 import Money
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue import check as check_module
from offers.catalogue import document
from offers.catalogue.check import check
from offers.catalogue.definitions import Definitions, definitions
from offers.catalogue.document import Fragment, read, varint, write_fragments
from offers.errors import CatalogError, Problem
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import Offer
from tests.strategies import Maker

HERE = Path(__file__).parent
BAD = HERE / "bad"
EXPECTED: dict[str, list[dict[str, Any]]] = yaml.safe_load((HERE / "bad.yaml").read_text(encoding="utf-8"))

GOOD = """
catalog_id: good
title: Good
time_zone: Europe/Paris
country_code: FR
default_ranking_strategy_id: plain
holdout: 0.5
order_value_scale: {currency_code: EUR, nanos: 10000000}
sensitive_attributes: [religion]
segments:
- {segment_id: lapsing, expression: profile.life_cycle == LifeCycle.LIFE_CYCLE_LAPSING}
- segment_id: fasting
  expression: "profile.attributes.religion == 'any' && now > timestamp('2026-01-01T00:00:00Z')"
  sensitive_use: {attributes: [religion], reason: No lunch while fasting, approved_by: The board}
intents:
- {intent_id: buy, title: Buys, expression: "has(session.basket) || profile.attributes.religion == 'shopping'",
   sensitive_use: {attributes: [religion], reason: Shopping is one, approved_by: The board}}
- {intent_id: look, expression: "true"}
campaigns:
- campaign_id: spring
  window: {start_time: 2026-03-01T00:00:00Z, end_time: 2026-06-01T00:00:00Z}
  audience: {none_segment_ids: [fasting]}
  frequency_caps: [{max_count: 1000, rolling: 34560000s}, {max_count: 1, rolling: 1s, kind: EVENT_KIND_CLICK}]
  redemption_caps: [{max_count: 1000}, {max_count: 1, calendar: CALENDAR_PERIOD_DAY, kind: EVENT_KIND_REDEMPTION}]
  budget:
    units: 1
    amount: {currency_code: EUR, nanos: 10000000}
    period: CALENDAR_PERIOD_MONTH
    period_amount: {currency_code: EUR, units: 5}
    time_zone: Europe/Paris
    pacing: PACING_FRONT_LOADED
  holdout: 0.5
category_limits:
- {category: lunch, frequency_caps: [{max_count: 1, calendar: CALENDAR_PERIOD_WEEK, time_zone: Europe/Paris}]}
contact_policies:
- {contact_policy_id: night, quiet_hours: "22:00-08:00; PH off", offer_cool_down: 34560000s, cool_down: 1s}
- {contact_policy_id: spring, campaign_ids: [spring], categories: [lunch], channels: [app]}
experiments:
- {experiment_id: near, layer: rank, share: 0.7, variants: [{variant_id: a, weight: 1000}, {variant_id: b}]}
- experiment_id: far
  layer: rank
  share: 0.3
  window: {start_time: 2026-03-01T00:00:00Z}
  placement_ids: [home]
  variants: [{variant_id: a}, {variant_id: b, ranking_strategy_id: plain}]
triggers:
- trigger_id: left
  title: Left a basket
  abandoned_basket: {idle: 60s, minimum_value: {currency_code: EUR, nanos: 10000000}}
  segment_id: lapsing
  placement_id: home
  cool_down: 34560000s
  within: 2592000s
- {trigger_id: away, lapsing: {after: 34560000s, since: SINCE_LAST_ORDER}, placement_id: home, cool_down: 0s}
offers:
- offer_id: lunch
  title: Two for one
  benefit: {bundle: {quantity: 2, paid_quantity: 1}, minimum_order: {currency_code: EUR, units: 10}}
  creative: {image_uri: "https://example.com/a.jpg?b=c#d", link_uri: "app:deal/1", body: Soup, call_to_action: Go}
  category: lunch
  brand: Soup & Co
  target:
    {venue_ids: [bar, cafe], radius_m: 1000000, zone_ids: [centre], circles: [{center: {latitude: 90}, radius_m: 1}]}
  availability:
    windows:
    - {start_time: 1970-01-01T00:00:00Z, end_time: 2100-01-01T00:00:00Z}
    - {start_time: 2026-03-01T00:00:00Z}
    - {end_time: 2026-03-01T00:00:00+01:00}
    opening_hours: Mo-Fr 11:30-14:30; PH off
    time_zone: America/Argentina/Buenos_Aires
  redemption: {window: {end_time: 2026-04-01T00:00:00Z}, opening_hours: Mo-Fr 11:30-14:30, required_when_shown: true}
  placement_ids: [home]
  language_codes: [fr, pt-BR, zh-Hant-TW, de-1996, en-u-ca-gregory, x-y]
  currency_codes: [EUR]
  channels: [app]
  value: 1
  lever: 0.001
  campaign_id: spring
  audience:
    any_segment_ids: [lapsing]
    all_segment_ids: [lapsing]
    none_segment_ids: [fasting]
    variants: [{experiment_id: far, variant_id: b}]
  frequency_caps: [{max_count: 1}]
  budget: {units: 1, pacing: PACING_EVEN}
  creative_variants:
  - {creative: {}, language_codes: [fr], channels: [app], audience: {any_segment_ids: [lapsing]}, creative_id: "2"}
  - {creative: {body: Soupe}, title: Deux pour un, creative_id: "1"}
- offer_id: delivery
  title: Free delivery
  benefit: {free_delivery: {}, maximum_discount: {currency_code: JPY, units: 1}}
  target: {venue_ids: [cafe]}
- offer_id: price
  title: Fixed
  benefit: {fixed_price: {currency_code: EUR}}
  target: {everywhere: true, excluded_zone_ids: [all, centre], missing_location: MISSING_LOCATION_ALLOW}
  fallback: true
  exclusion_group: price
- offer_id: area
  title: Inside
  benefit: {fixed_price: {currency_code: EUR}}
  target:
    venue_selectors: [{labels: {cuisine: ramen;sushi, diet: vegan}}, {labels: {chain: b}}]
    radius_m: 5
    areas:
    - '{"type": "Polygon", "coordinates": [[[2.3, 48.8], [2.4, 48.8], [2.4, 48.9], [2.3, 48.8]]]}'
    - '{"type": "MultiPolygon", "coordinates": [[[[179, 8], [-179, 8], [-179, 9], [179, 8]]]]}'
    min_inside_probability: 0.99
venues:
- venue_id: bar
  point: {latitude: -90, longitude: 180}
  country_code: DE
  time_zone: UTC
  labels: {cuisine: ramen, diet: "halal; vegan"}
- venue_id: cafe
  point: {}
  radius_m: 0.5
  title: Café
  travel: {mode: TRAVEL_MODE_CYCLING, speed_kmh: 300}
  labels: {chain: "a;b"}
zones:
- {zone_id: all, zone_ids: [centre, drawn]}
- zone_id: drawn
  areas: ['{"type": "Polygon", "coordinates": [[[2, 48], [3, 48], [3, 49], [2, 48]]]}']
- {zone_id: ring, zone_ids: [all, drawn], excluded_zone_ids: [centre, all]}
- {zone_id: centre, circles: [{center: {longitude: -180}, radius_m: 1000000}], country_code: JP}
placements:
- {placement_id: home, channel: app, ranking_strategy_id: plain, max_offers: 100, max_per_brand: 1}
ranking_strategies:
- ranking_strategy_id: plain
  weights: {nearness: 0, timeliness: 100}
  nearness: {scale: 0.1, decay: 0.999, minimum: 1}
  timeliness: {shape: SHAPE_LINEAR, offset: 5, scale: 1}
  propensity: {reward: REWARD_ORDER_VALUE}
  nearness_without_distance: 1
  unreachable: 0.001
  behaviour_rules:
  - {rule_id: left, intent_id: buy, basket: {idle: 604800s, within: 34560000s}, lift: 100}
  - {rule_id: soup, segment_id: lapsing, viewed: {within: 1s}, lift: 1.001}
  - {rule_id: most, campaign_id: spring, lift: 2}
"""


def problems_of(source: Path) -> tuple[Problem, ...]:
    """Check a source that has problems."""
    with pytest.raises(CatalogError) as raised:
        check(source)
    return raised.value.problems


def an_offer(catalog: Catalog, offer_id: str) -> Offer:
    """Add an offer that is shown everywhere."""
    offer = catalog.offers.add(offer_id=offer_id, title=offer_id)
    offer.benefit.percent_off = 10
    offer.target.everywhere = True
    return offer


def test_a_catalogue_without_faults(tmp_path: Path) -> None:
    """A catalogue at the edges of what is allowed has no problem; its parts are given, and its offers counted."""
    (tmp_path / "good.yaml").write_text(GOOD)
    checked = check(tmp_path / "good.yaml")
    head = Catalog(
        catalog_id="good",
        title="Good",
        time_zone="Europe/Paris",
        country_code="FR",
        default_ranking_strategy_id="plain",
        holdout=0.5,
        sensitive_attributes=["religion"],
        order_value_scale=Money(currency_code="EUR", nanos=10_000_000),
    )
    assert head == checked.catalog
    assert 4 == checked.offer_count
    assert ["bar", "cafe"] == list(checked.venues)
    assert "Café" == checked.venues["cafe"].title
    assert "JP" == checked.zones["centre"].country_code
    assert 100 == checked.placements["home"].max_offers
    assert 100 == checked.ranking_strategies["plain"].weights.timeliness
    assert ["lapsing", "fasting"] == list(checked.segments)
    assert ["spring"] == list(checked.campaigns)
    assert ["lunch"] == list(checked.category_limits)
    assert ["night", "spring"] == list(checked.contact_policies)
    assert ["near", "far"] == list(checked.experiments)
    assert ["left", "away"] == list(checked.triggers)


def test_every_bad_document_is_listed() -> None:
    """Each document in bad/ has its problems in bad.yaml, and each entry there its document."""
    assert sorted(EXPECTED) == sorted(path.name for path in BAD.iterdir())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_bad_document(name: str) -> None:
    """All problems of a document are reported in order, each with its place, reason and fix."""
    source = BAD / name
    problems = problems_of(source)
    wanted = EXPECTED[name]
    assert [(item["line"], item["field"]) for item in wanted] == [(it.line, it.field) for it in problems]
    for item, problem in zip(wanted, problems, strict=True):
        assert str(source / item.get("file", "")) == problem.file
        assert item["reason"] in problem.reason.replace(f"{BAD}/", "")
        assert item["fix"] in problem.fix


def test_too_many_triggers(tmp_path: Path) -> None:
    """A catalogue has at most 32 triggers; the first beyond that is reported."""
    catalog = Catalog(catalog_id="many")
    an_offer(catalog, "one")
    catalog.placements.add(placement_id="push")
    for number in range(33):
        trigger = catalog.triggers.add(trigger_id=f"t{number}", placement_id="push")
        trigger.abandoned_basket.SetInParent()
    write_fragments(tmp_path / "many.binpb", [catalog])
    (problem,) = problems_of(tmp_path / "many.binpb")
    del catalog.triggers[32]
    write_fragments(tmp_path / "many.binpb", [catalog])

    assert problem.field.endswith(": triggers[32]")
    assert ("is one of 33 triggers", "write at most 32") == (problem.reason, problem.fix)
    assert 32 == len(check(tmp_path / "many.binpb").triggers)


def test_too_many_corners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The areas of zones and of offers count together."""
    square = {"type": "Polygon", "coordinates": [[[2, 48], [3, 48], [3, 49], [2, 48]]]}
    offers = [{"offer_id": "a", "title": "A", "benefit": {"percent_off": 1}, "target": {"areas": [square]}}]
    written = {"catalog_id": "c", "zones": [{"zone_id": "z", "areas": [square]}], "offers": offers}
    source = tmp_path / "catalog.json"
    source.write_text(json.dumps(written))
    assert 1 == check(source).offer_count
    monkeypatch.setattr(check_module, "MAX_CATALOG_CORNERS", 8)
    with pytest.raises(CatalogError) as caught:
        check(source)
    (problem,) = caught.value.problems

    assert ("zones", True) == (problem.field, "corners together, and may have 8" in problem.reason)


def test_parts_in_any_order(tmp_path: Path) -> None:
    """Offers may come records before the venues, zones, placements and strategies they refer to."""
    (tmp_path / "good.yaml").write_text(GOOD)
    (fragment,) = document.read(tmp_path / "good.yaml", [])
    records = []
    for described, value in fragment.catalog.ListFields():
        one: dict[str, Any] = {described.name: value}
        records.append(Catalog(**one))
    for parts in (records, records[::-1]):
        write_fragments(tmp_path / "good.binpb", parts)
        assert 4 == check(tmp_path / "good.binpb").offer_count


def test_holidays_of_a_venue_that_comes_later(tmp_path: Path) -> None:
    """Hours with public holidays are checked for the country of the offer's venue, wherever it is defined."""
    offers, venues = Catalog(catalog_id="a"), Catalog()
    offer = offers.offers.add(offer_id="one", title="One")
    offer.benefit.percent_off = 10
    offer.target.venue_ids.append("cafe")
    offer.availability.opening_hours = "Mo-Fr 09:00-17:00; PH off"
    cafe = venues.venues.add(venue_id="cafe", radius_m=5, country_code="BV")
    cafe.point.SetInParent()
    for parts, unknown in (((offers, venues), "BV"), ((venues, offers), "DE-XX")):
        cafe.country_code = unknown
        write_fragments(tmp_path / "a.binpb", parts)
        (problem,) = problems_of(tmp_path / "a.binpb")
        assert problem.field.endswith(": offers[0].availability.opening_hours")
        assert f"'{unknown}'" in problem.reason
    for known in ("NO", "DE-BY", "IN", "IN-MH"):
        cafe.country_code = known
        write_fragments(tmp_path / "a.binpb", (offers, venues))
        assert known == check(tmp_path / "a.binpb").venues["cafe"].country_code


def test_a_selector_where_no_venue_has_labels(tmp_path: Path) -> None:
    """Without any label in the catalogue, the fix for a selector that finds no venue is to write labels."""
    catalog = Catalog(catalog_id="a")
    target = an_offer(catalog, "one").target
    target.everywhere = False
    target.venue_selectors.add(labels={"cuisine": "ramen"})
    write_fragments(tmp_path / "a.binpb", [catalog])
    (problem,) = problems_of(tmp_path / "a.binpb")
    assert "record 1: offers[0].target.venue_selectors[0]" == problem.field
    assert ("no venue has a label 'cuisine'", "label the venues meant with it") == (problem.reason, problem.fix)


@pytest.mark.parametrize(
    ("venue", "places"),
    [
        ("labels: {cuisine: []}", {"venues[0].labels.cuisine"}),
        ("labels: ramen", {"venues[0].labels"}),
        ("country_code: fr", {"venues[0].country_code", "offers[0].target.venue_selectors[0]"}),
    ],
)
def test_a_selector_beside_labels_that_cannot_be_read(tmp_path: Path, venue: str, places: set[str]) -> None:
    """If a selector finds no venue because a label has a fault, only that fault is reported."""
    (tmp_path / "a.yaml").write_text(
        f"""
catalog_id: a
venues: [{{venue_id: bar, point: {{}}, radius_m: 5, {venue}}}]
offers:
- {{offer_id: o, title: O, benefit: {{custom: a}}, target: {{venue_selectors: [{{labels: {{cuisine: ramen}}}}]}}}}
"""
    )
    assert places == {problem.field for problem in problems_of(tmp_path / "a.yaml")}


def test_what_only_binary_can_hold(tmp_path: Path) -> None:
    """Numbers that text refuses are refused in a record, too, with the number of the record."""
    catalog = Catalog(catalog_id="a")
    offer = an_offer(catalog, "one")
    offer.benefit.percent_off = float("inf")
    offer.value = float("nan")
    an_offer(catalog, "one")
    circle = catalog.zones.add(zone_id="z").circles.add(radius_m=float("inf"))
    circle.center.latitude = circle.center.longitude = float("nan")
    strategy = catalog.ranking_strategies.add(ranking_strategy_id="s")
    strategy.nearness.ParseFromString(b"\x08\x09")  # shape: 9
    strategy.nearness.scale = strategy.nearness.offset = float("inf")
    strategy.weights.value = float("nan")
    write_fragments(tmp_path / "a.binpb", [Catalog(), catalog])
    expected = {
        "record 2: offers[0].benefit.percent_off": "inf is not over 0",
        "record 2: offers[0].value": "nan is not over 0",
        "record 2: offers[1].offer_id": "first at " + str(tmp_path / "a.binpb") + " record 2: offers[0].offer_id",
        "record 2: zones[0].circles[0].center.latitude": "nan is not from -90",
        "record 2: zones[0].circles[0].center.longitude": "nan is not from -180",
        "record 2: zones[0].circles[0].radius_m": "inf is not over 0",
        "record 2: ranking_strategies[0].nearness.shape": "9 is not a Shape",
        "record 2: ranking_strategies[0].nearness.scale": "inf is not over 0",
        "record 2: ranking_strategies[0].nearness.offset": "inf is not 0 or more",
        "record 2: ranking_strategies[0].weights.value": "nan is not from 0",
    }
    problems = {problem.field: problem.reason for problem in problems_of(tmp_path / "a.binpb")}
    assert sorted(expected) == sorted(problems)
    for place, reason in expected.items():
        assert reason in problems[place]


def test_every_unknown_id_is_told(tmp_path: Path) -> None:
    """Each of many unknown references has its problem, and the first hundred have a suggestion."""
    catalog = Catalog(catalog_id="a")
    for number in range(150):
        an_offer(catalog, f"offer-{number}").placement_ids.append(f"hone-screen-banner-{number}")
    catalog.placements.add(placement_id="home-screen-banner-1")
    write_fragments(tmp_path / "a.binpb", [catalog])
    problems = problems_of(tmp_path / "a.binpb")
    assert 150 == len(problems)
    assert "did you mean 'home-screen-banner-1'?" == problems[99].fix
    assert problems[100].fix.startswith("write the id of a placement")


def test_a_missing_path(tmp_path: Path) -> None:
    """A path that does not exist is one problem, and missing parts of the catalogue are not reported."""
    (problem,) = problems_of(tmp_path / "nowhere")
    assert (str(tmp_path / "nowhere"), None, "") == (problem.file, problem.line, problem.field)


def test_a_source_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that has disappeared when its line is looked up still makes the catalogue invalid."""
    bad, good = Catalog(catalog_id="a"), Catalog(catalog_id="a")
    an_offer(bad, "one").placement_ids.append("gone")
    an_offer(good, "one")
    versions = iter([bad, good])

    def changing(source: Path, _problems: list[Problem]) -> Iterator[Fragment]:
        yield Fragment(next(versions), str(source), lambda _path: 1, "", frozenset())

    monkeypatch.setattr(document, "read", changing)
    (problem,) = problems_of(tmp_path)
    assert "changed while it was being read" == problem.reason


ODD_VALUES: list[Any] = [
    *(None, True, -1, 0, 1e300, float("nan"), "", "NO", "text", "2026-01-01", "x" * 3000, [], {}, [[]], [{}], {"a": 1}),
    *([None], ["cafe", "caffe"], {"latitude": 91}, {"everywhere": True}, "Mo-Fr 25:00", "PH off", "SHAPE_EXP", 2**63),
]


def places(node: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the holder and key of every value in a document."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


TEXTS: dict[str, Any] = yaml.load(GOOD, Loader=yaml.BaseLoader)  # noqa: S506 - it makes nothing but texts
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["yaml", "json"]))
def test_a_mutated_document(data: st.DataObject, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A good document with values and names replaced is accepted, or refused with places and reasons."""
    content = copy.deepcopy(TEXTS)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(places(content))))
        change = data.draw(st.sampled_from(["replace", "remove", "rename", "repeat"]))
        if change == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif change == "rename" and isinstance(holder, dict):
            holder[f"{key}_x"] = holder.pop(key)
        elif change == "remove":
            del holder[key]
        else:
            holder[key] = copy.deepcopy(data.draw(st.sampled_from(ODD_VALUES)))
    path = tmp_path_factory.getbasetemp() / f"mutated.{suffix}"
    path.write_text(json.dumps(content) if suffix == "json" else yaml.dump(content, Dumper=DUMPER))
    last = len(path.read_text().splitlines())
    problems: tuple[Problem, ...] = ()
    try:
        assert check(path).offer_count
    except CatalogError as error:
        problems = error.problems
        assert problems
    assert all(it.file == str(path) and it.reason and it.fix for it in problems)
    assert all(1 <= it.line <= last for it in problems if it.line is not None)
    assert len(set(problems)) == len(problems)


def test_definitions_without_reading_the_offers(tmp_path: Path) -> None:
    """Definitions read without the check equal those of the check, however records hold them."""
    catalog = Maker(5).catalog(40)
    mixed = [Catalog(offers=catalog.offers[:3]), catalog, Catalog(title=catalog.title)]
    del mixed[1].offers[:3]
    for number, records in enumerate((mixed, mixed[::-1])):
        path = tmp_path / f"{number}.binpb"
        write_fragments(path, records)
        checked, found = check(path), definitions(path)
        assert len(catalog.offers) + 3 == checked.offer_count
        assert checked.venues
        assert all(getattr(checked, name) == getattr(found, name) for name in Definitions.__dataclass_fields__)


def test_definitions_of_damaged_records(tmp_path: Path) -> None:
    """A record with any byte changed or cut off gives the same result whether or not offers are left out."""
    catalog = Maker(6).catalog(2)
    record, random = catalog.SerializeToString(deterministic=True), Random(6)
    for number in range(2_000):
        damaged = bytearray(record)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        del damaged[random.choice([len(damaged), random.randrange(len(damaged))]) :]
        path = tmp_path / "catalog.binpb"
        path.write_bytes(varint(len(damaged)) + damaged)
        whole: list[Problem] = []
        found = list(read(path, whole))
        without = list(read(path, [], offers=False))
        assert not found or without, number
        for one, other in zip(found, without, strict=False):
            one.catalog.ClearField("offers")
            other.catalog.ClearField("offers")
            assert one.catalog == other.catalog, number
