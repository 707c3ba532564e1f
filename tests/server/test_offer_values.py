"""Models see the attributes of offers as the served catalogues have them."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from offers.catalogue.publish import publish
from offers.catalogue.snapshot import open_snapshot
from offers.decision.engine import Engine
from offers.errors import CatalogError
from offers.model.keys import key_of
from offers.model.visits import short, trait_of
from offers.server.offer_values import CatalogueReader, Documents, offers_of

PARIS = """
catalog_id: paris
time_zone: Europe/Paris
interactions: [{attributes: [hour, offer.cuisine]}]
sensitive_attributes: [religion]
order_value_scale: {currency_code: EUR, units: 49, nanos: 500000000}
campaigns: [{campaign_id: spring, title: Spring}]
offers:
  - offer_id: thai
    title: Thai
    category: food
    brand: b1
    campaign_id: spring
    attributes: {cuisine: thai, spiciness: 3, vegan: true}
    benefit: {percent_off: 10}
    target: {everywhere: true}
"""
TOKYO = """
catalog_id: tokyo
time_zone: Asia/Tokyo
interactions: [{attributes: [hour, offer.cuisine]}]
sensitive_attributes: [party]
offers:
  - {offer_id: thai, title: Thai, benefit: {percent_off: 10}, target: {everywhere: true}, attributes: {stars: 2}}
  - {offer_id: plain, title: Plain, benefit: {percent_off: 10}, target: {everywhere: true}}
"""


def write(folder: Path, name: str, text: str) -> Path:
    """Write a document."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def test_catalogues_tell_of_their_offers(tmp_path: Path) -> None:
    """Category, brand, campaign and attributes are found by catalogue and offer.

    Names of attributes, time zones and sensitive attributes are those of all catalogues; unknown offers have nothing.
    """
    paths = [write(tmp_path, "paris", PARIS), write(tmp_path, "tokyo", TOKYO)]
    told = offers_of([publish(path, tmp_path / "data").path for path in paths])
    assert ("campaign", "cuisine", "spiciness", "stars", "vegan") == told.attributes
    assert {
        "category": "food", "brand": "b1", "campaign": "spring", "cuisine": "thai", "spiciness": 3, "vegan": True
    } == told.values("paris", "thai")  # fmt: skip
    assert {"stars": 2} == told.values("tokyo", "thai")
    assert {"paris": ("EUR", 49.5)} == told.scales
    assert [{}] * 4 == [
        told.values(*one) for one in (("tokyo", "plain"), ("paris", "plain"), ("paris", ""), ("gone", "thai"))
    ]
    assert {"paris": "Europe/Paris", "tokyo": "Asia/Tokyo"} == told.time_zones
    assert {"religion", "party"} == told.sensitive
    assert (("hour", "offer.cuisine"),) == told.interactions


def test_every_offer_of_many_is_found(tmp_path: Path) -> None:
    """In a catalogue of some hundred offers, each has its own values."""
    lines = [
        f"- {{offer_id: o{number}, title: T, category: c{number % 7}, benefit: {{percent_off: 10}},"
        f" target: {{everywhere: true}}, attributes: {{price: {number / 2}, a{number % 3}: x{number}}}}}"
        for number in range(300)
    ]
    path = write(tmp_path, "many", "catalog_id: many\noffers:\n" + "\n".join(lines))
    told = offers_of([publish(path, tmp_path / "data").path])
    assert ("campaign", "a0", "a1", "a2", "price") == told.attributes
    for number in range(300):
        expected = {"category": f"c{number % 7}", "price": number / 2, f"a{number % 3}": f"x{number}"}
        assert expected == told.values("many", f"o{number}")


def test_models_know_few_attributes_of_offers(tmp_path: Path) -> None:
    """Of too many attributes, models know those that most catalogues have."""
    paths = []
    for number in range(2):
        names = [*(f"own{number}-{one:02}" for one in range(10)), *(f"z{one}" for one in range(4))]
        values = ", ".join(f"{name}: 1" for name in names)
        text = TOKYO.replace("tokyo", f"c{number}").replace("stars: 2", values)
        paths.append(publish(write(tmp_path, f"c{number}", text), tmp_path / "data").path)
    with capture_logs() as logs:
        told = offers_of(paths)
    first = [f"own0-{one:02}" for one in range(10)]
    assert ("campaign", *first, "own1-00", "own1-01", *(f"z{one}" for one in range(4))) == told.attributes
    assert [[f"own1-{one:02}" for one in range(2, 10)]] == [line["left_out"] for line in logs]


def test_visits_are_of_the_only_venue_of_an_offer_else_of_itself(tmp_path: Path) -> None:
    """Items and traits of offers equal those of events; unknown offers have none."""
    target = "target: {everywhere: true}, attributes: {cuisine: thai, price_band: low}"
    venue = "{venue_id: bar, title: Bar, point: {latitude: 48.8674, longitude: 2.3636}, radius_m: 500}"
    text = PARIS.replace("offers:", f"venues: [{venue}]\noffers:")
    text += f"  - {{offer_id: anywhere, title: T, benefit: {{percent_off: 10}}, {target}}}\n"
    text += "  - {offer_id: there, title: T, benefit: {percent_off: 10}, target: {venue_ids: [bar]}}\n"
    snapshot = publish(write(tmp_path, "paris", text), tmp_path / "data").path
    told = offers_of([snapshot])
    names = [trait_of(kind, name) for kind, name in (("category", "food"), ("cuisine", "thai"), ("brand", "b1"))]
    assert (key_of("offer", "paris", "thai"), (*map(short, names), 0)) == told.item("paris", "thai")
    thai, low = (int(short(trait_of(*one))) for one in (("cuisine", "thai"), ("price_band", "low")))
    assert (key_of("offer", "paris", "anywhere"), (0, thai, 0, low)) == told.item("paris", "anywhere")
    assert (key_of("venue", "paris", "bar"), (0, 0, 0, 0)) == told.item("paris", "there")
    assert [(0, (0, 0, 0, 0))] * 2 == [told.item(*one) for one in (("paris", "gone"), ("gone", "thai"))]
    directory = Engine(open_snapshot(snapshot)).directory
    for offer in ("thai", "anywhere", "there"):
        facts = directory.of(offer, "")
        assert facts is not None
        assert told.item("paris", offer) == (facts.item, facts.traits)


def test_changed_documents_are_read_again(tmp_path: Path) -> None:
    """A change is read once; a broken document is logged once, and the former values stay."""
    path = write(tmp_path, "tokyo", TOKYO)
    reader = CatalogueReader(Documents([path], tmp_path / "data"))
    assert {"stars": 2} == reader.read().values("tokyo", "thai")
    assert reader.look() is None
    write(tmp_path, "tokyo", TOKYO.replace("stars: 2", "stars: 3"))
    told = reader.look()
    assert told is not None
    assert {"stars": 3} == told.values("tokyo", "thai")
    assert reader.look() is None
    write(tmp_path, "tokyo", "catalog_id: tokyo\noffers: [{offer_id: 'no good'}]\n")
    with capture_logs() as logs:
        assert [None] * 3 == [reader.look() for _ in range(3)]
    (line,) = logs
    assert ("catalogue_not_taken_up", True) == (line["event"], "'no good' is not an id" in line["error"])


def test_snapshots_that_cannot_be_read_are_looked_at_again(tmp_path: Path) -> None:
    """An unreadable snapshot is logged once, and is read as soon as it can be."""
    paths = [publish(write(tmp_path, "tokyo", TOKYO), tmp_path / "data").path]
    reader = CatalogueReader(lambda: list(paths))
    reader.read()
    paths[:] = [publish(write(tmp_path, "tokyo", TOKYO.replace("stars: 2", "stars: 3")), tmp_path / "data").path]
    hidden = paths[0].rename(tmp_path / "hidden")
    with capture_logs() as logs:
        assert [None] * 3 == [reader.look() for _ in range(3)]
    assert ["catalogue_not_taken_up"] == [line["event"] for line in logs]
    hidden.rename(paths[0])
    told = reader.look()
    assert told is not None
    assert {"stars": 3} == told.values("tokyo", "thai")
    assert reader.look() is None


def test_a_document_that_is_broken_from_the_start_is_told(tmp_path: Path) -> None:
    """The first read raises the problems."""
    path = write(tmp_path, "tokyo", "catalog_id: tokyo\noffers: [{offer_id: 'no good'}]\n")
    with pytest.raises(CatalogError, match="'no good' is not an id"):
        CatalogueReader(Documents([path], tmp_path / "data")).read()
