"""Windows, terms, hours, clocks, defaults and the order of a document are in the compiled snapshot."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.interval_pb2 import Interval
from google.type.latlng_pb2 import LatLng
from google.type.money_pb2 import Money

from offers.catalogue.compile import compiler as compiling
from offers.catalogue.compile.compiler import compile_snapshot
from offers.catalogue.document import write_document, write_fragments
from offers.catalogue.publish import publish
from offers.catalogue.snapshot import (
    AROUND_POINT,
    EVERYWHERE,
    NO_CHAIN,
    NO_SCHEDULE,
    NO_WINDOWS,
    ODD,
    Snapshot,
    open_snapshot,
)
from offers.errors import CatalogError
from offers.v1.catalog_pb2 import Catalog
from offers.v1.offer_pb2 import (
    TIME_ZONE_BASIS_FIXED,
    TIME_ZONE_BASIS_UNSPECIFIED,
    TIME_ZONE_BASIS_USER,
    TIME_ZONE_BASIS_VENUE,
    Availability,
    Benefit,
    Offer,
    Redemption,
    Target,
)
from offers.v1.offer_service_pb2 import GetOffersRequest, GetOffersResponse
from offers.v1.venue_pb2 import Circle
from tests.decision.kernels.test_kernels_equal_reference import service_of
from tests.strategies import Maker

PARIS, TOKYO = LatLng(latitude=48.8566, longitude=2.3522), LatLng(latitude=35.6762, longitude=139.6503)


def compiled(folder: Path, catalog: Catalog) -> Snapshot:
    """Publish a catalogue and open it."""
    document = folder / "catalog.binpb"
    write_document(document, catalog)
    return open_snapshot(publish(document, folder / "data").path)


def offer(identity: str = "a", **parts: Any) -> Offer:  # noqa: ANN401 - fields of an Offer
    """Return a minimal offer with some fields set."""
    whole = Offer(offer_id=identity, title="a", benefit=Benefit(custom="a"), target=Target(everywhere=True))
    whole.MergeFrom(Offer(**parts))
    return whole


def span(start: int | None, end: int | None) -> Interval:
    """Return a window; None leaves an end open."""
    window = Interval()
    if start is not None:
        window.start_time.CopyFrom(Timestamp(seconds=start))
    if end is not None:
        window.end_time.CopyFrom(Timestamp(seconds=end))
    return window


def until(*spans: tuple[int, int | None]) -> dict[int, int | None]:
    """When an offer that is on in some spans ends (None: never), at each of the seconds asked for at which it is on."""
    return {
        second: end
        for second in (*range(60), 4_102_444_799)
        for start, end in spans
        if start <= second and (end is None or second < end)
    }


@pytest.mark.parametrize(
    ("windows", "redemption", "required", "wanted"),
    [
        ([], None, False, until((0, None))),
        ([span(10, 20)], None, False, until((10, 20))),
        ([span(30, 40), span(10, 20)], None, False, until((10, 20), (30, 40))),
        ([span(10, 20), span(20, 30)], None, False, until((10, 30))),
        ([span(10, 40), span(20, 30), span(35, 50)], None, False, until((10, 50))),
        ([span(None, 20), span(30, None)], None, False, until((0, 20), (30, None))),
        ([span(None, 20), span(5, None)], None, False, until((0, None))),
        ([span(10, 20)], span(15, 25), False, until((10, 20))),
        ([span(10, 20), span(30, 40)], span(15, 35), True, until((15, 20), (30, 35))),
        ([], span(15, 35), True, until((15, 35))),
        ([], span(15, None), True, until((15, None))),
        ([span(10, 20)], span(20, 30), True, until()),
        ([span(1, 4_102_444_800)], None, False, until((1, 4_102_444_800))),
    ],
)
def test_windows_are_put_together(
    windows: list[Interval],
    redemption: Interval | None,
    wanted: dict[int, int | None],
    *,
    required: bool,
) -> None:
    """Windows that touch or overlap are one; a binding redemption cuts them; what never comes is never shown."""
    one = offer(availability=Availability(windows=windows))
    if redemption is not None:
        one.redemption.CopyFrom(Redemption(window=redemption, required_when_shown=required))
    got = {}
    with service_of(Catalog(catalog_id="a", offers=[one])) as service:
        for second in (*range(60), 4_102_444_799):
            request = GetOffersRequest()
            request.context.time.seconds = second
            for shown in GetOffersResponse.FromString(service.get_offers(request.SerializeToString())).offers:
                got[second] = shown.valid_until.seconds if shown.HasField("valid_until") else None
    assert wanted == got


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ({}, [[], [], [], []]),
        ({"language_codes": ["pt-BR", "FR", "fr"]}, [[], ["fr", "pt-br"], [], []]),
        ({"channels": ["web", "app", "web"]}, [[], [], [], ["app", "web"]]),
        ({"benefit": Benefit(amount_off=Money(currency_code="EUR", units=1))}, [[], [], ["EUR"], []]),
        ({"benefit": Benefit(fixed_price=Money(currency_code="JPY", units=1))}, [[], [], ["JPY"], []]),
        ({"benefit": Benefit(percent_off=5, minimum_order=Money(currency_code="USD", units=1))}, [[], [], ["USD"], []]),
        (
            {"benefit": Benefit(amount_off=Money(currency_code="EUR", units=1)), "currency_codes": ["CHF"]},
            [[], [], ["CHF"], []],
        ),
    ],
)
def test_terms_are_what_the_offer_names(tmp_path: Path, parts: dict[str, Any], wanted: list[list[str]]) -> None:
    """Languages in lower case, currencies from the benefit's money where none is named, nothing twice."""
    snapshot = compiled(tmp_path, Catalog(catalog_id="a", offers=[offer(**parts)]))
    assert [wanted] == snapshot.meta["terms"]


def test_hours_have_the_clock_of_their_place(tmp_path: Path) -> None:
    """Hours are read by the offer's clock, else the place's own, else that of its position, else the person's."""
    catalog = Catalog(catalog_id="a", time_zone="Asia/Kathmandu")
    catalog.venues.add(venue_id="own", point=PARIS, radius_m=1, time_zone="America/New_York")
    catalog.venues.add(venue_id="position", point=TOKYO, radius_m=1)
    catalog.zones.add(zone_id="zone", circles=[Circle(center=TOKYO, radius_m=1), Circle(center=PARIS, radius_m=1)])
    targets = [
        Target(venue_ids=["own"]),
        Target(venue_ids=["position"]),
        Target(zone_ids=["zone"]),
        Target(circles=[Circle(center=PARIS, radius_m=1)]),
        Target(everywhere=True),
    ]
    hours = "Mo 10:00-12:00"
    for number, target in enumerate(targets):
        one = catalog.offers.add(offer_id=str(number), title="a", benefit=Benefit(custom="a"), target=target)
        one.availability.opening_hours = hours
    named = catalog.offers.add(offer_id="named", title="a", benefit=Benefit(custom="a"), target=targets[0])
    named.availability.CopyFrom(Availability(opening_hours=hours, time_zone="Africa/Cairo"))
    snapshot = compiled(tmp_path, catalog)
    zones: dict[str, set[str]] = {}
    names = sorted(offer.offer_id for offer in catalog.offers)
    for entry, schedule in zip(snapshot.columns["entry"], snapshot.columns["gate"]["schedule"].tolist(), strict=True):
        name = names[entry["order"]]
        ((_, zone, *_),) = snapshot.meta["schedules"][schedule]
        zones.setdefault(name, set()).add(zone)
    assert {
        "0": {"America/New_York"},
        "1": {"Asia/Tokyo"},
        "2": {"Asia/Tokyo", "Europe/Paris"},
        "3": {"Europe/Paris"},
        "4": {""},
        "named": {"Africa/Cairo"},
    } == zones


SUNNY, LUNCH, NOON = "sunrise-sunset", "11:30-14:30", "12:00-13:00"


def parts_of(snapshot: Snapshot, identity: str) -> list[list[list[Any]]]:
    """Return the parts of the schedule of each entry of an offer."""
    schedules = snapshot.columns["gate"]["schedule"][snapshot.columns["entry"]["order"] == int(identity)]
    return [snapshot.meta["schedules"][schedule] for schedule in schedules.tolist()]


def test_basis_decides_whose_clock_reads_the_hours(tmp_path: Path) -> None:
    """Hours and dayparts are read by the clock the basis names; a venue's own hours always by that of the venue."""
    catalog = Catalog(catalog_id="a", time_zone="Asia/Kathmandu", country_code="FR")
    catalog.dayparts.add(daypart_id="lunch", opening_hours=LUNCH)
    catalog.dayparts.add(daypart_id="noon", opening_hours=NOON)
    catalog.venues.add(venue_id="v", point=TOKYO, radius_m=1, opening_hours=SUNNY, country_code="JP")
    bases: list[tuple[Any, str, bool, str]] = [
        (TIME_ZONE_BASIS_UNSPECIFIED, "", False, "Asia/Tokyo"),
        (TIME_ZONE_BASIS_UNSPECIFIED, "Africa/Cairo", False, "Africa/Cairo"),
        (TIME_ZONE_BASIS_VENUE, "", False, "Asia/Tokyo"),
        (TIME_ZONE_BASIS_USER, "", False, ""),
        (TIME_ZONE_BASIS_FIXED, "Africa/Cairo", False, "Africa/Cairo"),
        (TIME_ZONE_BASIS_UNSPECIFIED, "", True, ""),
        (TIME_ZONE_BASIS_VENUE, "", True, "Asia/Kathmandu"),
        (TIME_ZONE_BASIS_USER, "", True, ""),
    ]
    for number, (basis, zone, everywhere, _) in enumerate(bases):
        one = catalog.offers.add(offer_id=str(number), title="a", benefit=Benefit(custom="a"))
        one.target.CopyFrom(Target(everywhere=True) if everywhere else Target(venue_ids=["v"]))
        one.availability.CopyFrom(Availability(time_zone_basis=basis, time_zone=zone, daypart_ids=["noon", "lunch"]))
        if not everywhere:
            one.availability.only_when_open = True
            one.availability.closing_margin.seconds = 900
    snapshot = compiled(tmp_path, catalog)
    own = [[SUNNY], "Asia/Tokyo", "", [TOKYO.latitude, TOKYO.longitude], 900]
    for number, (_, _, everywhere, zone) in enumerate(bases):
        dayparts = [[LUNCH, NOON], zone, "", [], 0]
        assert [[dayparts] if everywhere else [dayparts, own]] == parts_of(snapshot, str(number))


def test_equal_hours_are_worked_out_once(tmp_path: Path) -> None:
    """However many offers share hours in a zone, there is one schedule; a country matters only to holidays."""
    catalog = Catalog(catalog_id="a")
    for number in range(60):
        country, holidays = ("FR", "DE")[number % 2], number % 3 == 0
        hours = "Mo-Fr 10:00-12:00; PH off" if holidays else "Mo-Fr 10:00-12:00"
        availability = Availability(opening_hours=hours, country_code=country)
        catalog.offers.append(offer(str(number), availability=availability))
    assert 3 == len(compiled(tmp_path, catalog).meta["schedules"])


def test_binding_redemption_hours_join_the_others(tmp_path: Path) -> None:
    """Redemption hours that bind are part of when the offer is shown; others only of when it may be used."""
    shown, used = "Mo-Fr 08:00-20:00", "Mo 10:00-12:00"
    catalog = Catalog(catalog_id="a")
    for name, required in (("free", False), ("bound", True)):
        redemption = Redemption(opening_hours=used, required_when_shown=required)
        catalog.offers.append(offer(name, availability=Availability(opening_hours=shown), redemption=redemption))
    snapshot = compiled(tmp_path, catalog)
    rules = {tuple(rule for (rule,), *_ in parts) for parts in snapshot.meta["schedules"]}
    assert {(shown,), (used,), (used, shown)} == rules


def test_entries_lie_in_the_order_of_the_grid(tmp_path: Path) -> None:
    """Entries go by level, row, column and site, those shown everywhere last; offers follow their first entry."""
    catalog = Maker(11).catalog(40)
    columns = compiled(tmp_path, catalog).columns
    entries, sites = columns["entry"], columns["site_entry_first"]
    assert not (entries["kind"][: sites[-1]] == EVERYWHERE).any()
    assert (entries["kind"][sites[-1] :] == EVERYWHERE).all()
    extras = columns["extra"][entries["extra"]]
    is_cut = extras["excluded_first"] < extras["excluded_last"]
    standing = int(columns["standing_first"][0])
    assert is_cut[sites[-1] : standing].all()
    assert not is_cut[standing:].any()
    assert len(columns["centre"]) == len(sites) - 1 == columns["cell"]["site_first"][-1]
    assert (np.diff(sites) > 0).all()
    assert (np.diff(columns["cell"]["site_first"]) > 0).all()
    rows, cells = columns["row"]["cell_first"], columns["cell"]["column"]
    assert all((np.diff(cells[start:end]) > 0).all() for start, end in pairwise(rows))
    _, first = np.unique(entries["offer"], return_index=True)
    assert (np.diff(first) > 0).all()
    assert list(range(40)) == sorted(entries["order"][first].tolist())
    several = np.bincount(entries["offer"])[entries["offer"]] > 1
    assert (several == (entries["chain"] != NO_CHAIN)).all()


def test_entries_whose_gate_tells_all_have_nothing_else(tmp_path: Path) -> None:
    """Entries are plain if they are a lone offer's circle around a point, in one window, and nothing is said beyond."""
    columns = compiled(tmp_path, Maker(11).usual_catalog(40)).columns
    plain = columns["gate"]["terms"] < ODD
    assert 0 < np.count_nonzero(plain) < len(plain)
    entries = columns["entry"]
    is_usual = (entries["kind"] == AROUND_POINT) & (entries["extra"] == 0) & (entries["fallback"] == 0)
    assert (plain == (is_usual & (entries["chain"] == NO_CHAIN) & (entries["windows"] == NO_WINDOWS))).all()


def test_offers_without_hours_have_no_schedule(tmp_path: Path) -> None:
    """A catalogue without hours has no schedules and no clocks."""
    snapshot = compiled(tmp_path, Catalog(catalog_id="a", offers=[offer()]))
    assert ([], [NO_SCHEDULE]) == (snapshot.meta["schedules"], snapshot.columns["gate"]["schedule"].tolist())


def test_order_of_records_does_not_matter(tmp_path: Path) -> None:
    """A binary document whose offers come before the venues they name compiles to the same arrays."""
    catalog = Maker(12).catalog(30)
    head, body = Catalog(), Catalog()
    head.CopyFrom(catalog)
    head.ClearField("offers")
    body.offers.extend(catalog.offers)
    arrays = []
    for number, records in enumerate(([head, body], [body, head])):
        document = tmp_path / f"{number}.binpb"
        write_fragments(document, records)
        compile_snapshot(document, tmp_path / str(number), "0")
        arrays.append({path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()})
    assert arrays[0] == arrays[1]


def test_faulty_document_compiles_to_nothing(tmp_path: Path) -> None:
    """Nothing is written if the document has a problem."""
    document = tmp_path / "catalog.binpb"
    write_document(document, Catalog(catalog_id="a", offers=[offer(), offer()]))
    with pytest.raises(CatalogError, match="given twice"):
        compile_snapshot(document, tmp_path / "snapshot", "0")
    assert ["catalog.binpb"] == [path.name for path in tmp_path.iterdir()]


def test_large_documents_compile_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that is checked by another process while it is compiled gives the same bytes, or the same problems."""
    document, broken = tmp_path / "good.binpb", tmp_path / "broken.binpb"
    catalog = Maker(3).catalog(20)
    write_document(document, catalog)
    catalog.offers[7].target.venue_ids.append("nowhere")
    catalog.offers[9].title = ""
    write_document(broken, catalog)
    found = []
    for number, concurrent in enumerate((1 << 30, 0)):
        monkeypatch.setattr(compiling, "CONCURRENT_BYTES", concurrent)
        path = tmp_path / str(number)
        compile_snapshot(document, path, "0" * 16)
        with pytest.raises(CatalogError) as caught:
            compile_snapshot(broken, tmp_path / "broken", "0" * 16)
        assert not (tmp_path / "broken").exists()
        found.append(([file.read_bytes() for file in sorted(path.iterdir())], str(caught.value)))
    assert found[0] == found[1]
