"""The command line as its users meet it: what it prints where, and its exit statuses."""

import json
import math
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.json_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money

from offers.catalogue.snapshot import open_snapshot
from offers.cli import main, words
from offers.cli.catalogues import counted
from offers.cli.query import Moving
from offers.testing import Served, serving
from offers.v1.offer_pb2 import Benefit, Bundle, FreeDelivery
from offers.v1.offer_service_pb2 import GetOffersResponse, Proposition
from offers.v1.venue_pb2 import TravelMode
from tests.paths import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
CATALOGUE = """
catalog_id: test
time_zone: Europe/Paris
zones:
  - {zone_id: centre, circles: [{center: {latitude: 48.86, longitude: 2.35}, radius_m: 5000}]}
placements:
  - {placement_id: home, channel: app}
offers:
  - offer_id: lunch
    title: Lunch [of the day]
    benefit: {percent_off: 20}
    target: {circles: [{center: {latitude: 48.8674, longitude: 2.3636}, radius_m: 1500}]}
    availability: {opening_hours: "Mo-Fr 12:00-13:00"}
  - offer_id: delivery
    title: Free delivery
    benefit: {free_delivery: {}, minimum_order: {currency_code: EUR, units: 15}}
    target: {zone_ids: [centre]}
    availability: {windows: [{start_time: "2026-01-01T00:00:00Z", end_time: "2026-12-01T00:00:00Z"}]}
  - offer_id: welcome
    title: Welcome
    benefit: {amount_off: {currency_code: EUR, units: 5}}
    target: {everywhere: true}
  - offer_id: last
    title: Always something
    benefit: {custom: a smile}
    target: {everywhere: true}
    fallback: true
"""
MAPPING = """
catalog: {catalog_id: test}
offer:
  offer_id: "{id}"
  title: "{title}"
  benefit: {custom: a smile}
  target: {everywhere: true}
"""
PARIS_NOON = ("--lat", "48.87", "--lng", "2.3636", "--at", "2026-11-24 12:15", "--time-zone", "Europe/Paris")


class Outcome(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("OFFERS_CONFIG", raising=False)

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["offers", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Outcome(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve CATALOGUE."""
    source = tmp_path_factory.mktemp("catalogue") / "catalog.yaml"
    source.write_text(CATALOGUE, "utf-8")
    with serving(source) as running:
        yield running


@pytest.fixture
def ask(offers: Run, served: Served) -> Run:
    """Run `offers query` against the server."""
    return lambda *arguments: offers("query", "--target", served.target, *arguments)


def row(outcome: Outcome, title: str) -> list[str]:
    """Give the cells of the one row of a table that has this title."""
    (line,) = (line for line in outcome.out.splitlines() if f" {title} " in line and "│" in line)
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_help_lists_the_commands_each_on_a_line(offers: Run) -> None:
    """`offers --help` shows commands in panels, and examples that begin with the simplest."""
    shown = offers("--help")

    assert 0 == shown.status
    for name in ("serve", "query", "validate", "import", "compile"):
        assert 1 == sum(
            line.startswith(f"│ {name} ") and line.rstrip(" │").endswith(".") for line in shown.out.splitlines()
        )
    assert shown.out.index("Server") < shown.out.index("Catalogue") < shown.out.index("Examples")


def test_help_needs_nothing_heavy() -> None:
    """Nothing that takes long to import is imported before a command that needs it runs."""
    heavy = {"google", "grpc", "numba", "numpy", "pydantic", "yaml"}
    code = f"import sys, offers.cli; print(sorted({heavy} & set(sys.modules)))"

    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert "[]\n" == ended.stdout


def test_version_is_told(offers: Run) -> None:
    """`offers --version` says the version of the package."""
    assert Outcome(0, f"offers {VERSION}\n", "") == offers("--version")


def test_the_package_runs_as_a_module() -> None:
    """`python -m offers` is the command line."""
    ended = subprocess.run([sys.executable, "-m", "offers", "--version"], check=True, capture_output=True, text=True)

    assert f"offers {VERSION}\n" == ended.stdout


def test_query_shows_ranked_offers_in_words(ask: Run) -> None:
    """A row per offer with benefit, distance, reasons and end; below, how many there are and how long that holds."""
    shown = ask(*PARIS_NOON)

    assert (0, "") == (shown.status, shown.err)
    assert shown.out.startswith("48.87, 2.3636 · Tue 24 Nov 2026 12:15 Europe/Paris")
    near = row(shown, "Lunch [of the day]")
    assert ["−20 %", "289 m", "nearby · open now · ends soon", "13:00"] == near[2:6]  # noqa: RUF001 - a minus sign
    assert ["free delivery, from €15", "", "in zone", "Tue 1 Dec 01:00"] == row(shown, "Free delivery")[2:6]
    assert ["€5 off", "", "everywhere", "no end"] == row(shown, "Welcome")[2:6]
    assert "Always something" not in shown.out
    assert "3 eligible · catalogue version " in shown.out
    distance = json.loads(ask(*PARIS_NOON, "--json").out)["refresh_distance_m"]
    assert f"holds until 13:00:00 and within {words.distance_words(math.floor(distance))}\n" in shown.out


def test_an_answer_that_holds_until_another_day_names_it(ask: Run) -> None:
    """What nothing changes for a day holds until the same time of tomorrow, and says so."""
    shown = ask("--lat", "-89", "--lng", "0", "--at", "2026-11-24 12:15", "--time-zone", "Europe/Paris")

    assert "holds until Wed 25 Nov 12:15:00" in shown.out


@pytest.mark.parametrize(
    "instant", ["2026-11-24T12:15:00+01:00", "2026-11-24T11:15:00Z", "2026-11-24 12:15", "2026-11-24 12:15:00"]
)
def test_an_instant_is_read_with_its_offset_or_by_the_clock_of_the_zone(ask: Run, instant: str) -> None:
    """RFC 3339 stands for itself; without an offset the time zone's clock counts."""
    shown = ask(*PARIS_NOON[:4], "--time-zone", "Europe/Paris", "--at", instant)

    assert "Tue 24 Nov 2026 12:15 Europe/Paris" in shown.out


def test_a_time_of_day_means_today(ask: Run) -> None:
    """`--at 12:15` is today's quarter past twelve in the zone."""
    zone = ZoneInfo("Pacific/Auckland")
    before = datetime.now(zone)

    shown = ask("--at", "12:15", "--time-zone", "Pacific/Auckland")

    days = {f"{day:%a} {day.day} {day:%b %Y} 12:15" for day in (before, datetime.now(zone))}
    assert any(day in shown.out for day in days)


def test_query_full_shows_the_arithmetic(ask: Run) -> None:
    """`--full` shows each factor with its weight and contribution, and their sum."""
    shown = ask(*PARIS_NOON, "--full", "--max-offers", "1")

    contributions = [float(row(shown, name)[2]) for name in ("nearness", "timeliness", "value", "lever")]
    (footer,) = (line for line in shown.out.splitlines() if " score 0" in line)
    assert pytest.approx(sum(contributions), abs=2e-4) == float(footer.strip("│").split("│")[2])


def test_query_json_is_the_response(ask: Run) -> None:
    """`--json` prints the message with the names of its proto."""
    shown = ask(*PARIS_NOON, "--json", "--max-offers", "2")

    response = Parse(shown.out, GetOffersResponse())
    assert 2 == len(response.offers)
    assert 3 == json.loads(shown.out)["eligible_count"]
    assert not response.offers[0].factors


def test_query_explains_why_and_why_not(ask: Run) -> None:
    """--explain tells of each offer named: its score, or every check that fails."""
    session = ("--session", "s", "--session-start", "12:00", "--session-entry", "push")
    shown = ask(*PARIS_NOON, *session, "--explain", "lunch", "--explain", "last", "--explain", "nothing")

    assert 0 == shown.status
    assert "lunch: number 1 of the answer at circle\n  score 0." in shown.out
    assert "last: does not qualify: 1 check failed\n  - fallback not needed: a fallback, and other" in shown.out
    assert (
        "nothing: does not qualify: 1 check failed\n  - no such offer: the catalogue has no such offer\n" in shown.out
    )
    told = json.loads(ask(*PARIS_NOON, "--json", "--explain", "lunch").out)
    assert [("lunch", 1)] == [(one["offer_id"], one["rank"]) for one in told["explanations"]]
    assert 2 == ask("--session-start", "noon").status


def test_query_carries_every_part_of_the_context(ask: Run) -> None:
    """Who, what and how many are said by options; the server understands them all."""
    who = ("--user", "u", "--language", "fr", "--currency", "EUR", "--seed", "7")
    shown = ask(*PARIS_NOON, *who, "--channel", "app", "--placement", "home", "--catalog", "test", "--max-offers", "1")

    assert 0 == shown.status
    assert "3 eligible" in shown.out
    assert 0 == ask("--anonymous", "a").status


def test_query_carries_how_old_a_position_is_and_how_the_person_moves(ask: Run) -> None:
    """An older position is less certain, and the more the faster one moves: the factor of the location falls."""

    def location(*arguments: str) -> float:
        (offer,) = json.loads(ask(*PARIS_NOON, "--json", "--full", "--max-offers", "1", *arguments).out)["offers"]
        assert "lunch" == offer["offer_id"]
        (factor,) = (one for one in offer["factors"] if one["name"] == "FACTOR_NAME_LOCATION")
        return float(factor["value"])

    fresh = location("--accuracy", "300")
    walking = location("--accuracy", "300", "--observed-at", "12:10")
    cycling = location("--accuracy", "300", "--observed-at", "2026-11-24T11:10:00Z", "--moving", "cycling")

    assert walking == location("--accuracy", "300", "--observed-at", "2026-11-24 12:10", "--moving", "walking")
    assert fresh > walking > cycling > 0.5


def test_ways_of_moving_are_those_of_the_schema() -> None:
    """Every TravelMode can be given by its name."""
    assert [f"TRAVEL_MODE_{one.name}" for one in Moving] == TravelMode.keys()[1:]
    assert [one.name.lower() for one in Moving] == list(Moving)


def test_query_without_a_place_asks_for_what_is_everywhere(ask: Run) -> None:
    """Latitude and longitude may be left out together."""
    shown = ask()

    assert "Welcome" in shown.out
    assert "1 eligible" in shown.out
    assert "within" not in shown.out


def test_a_refused_request_is_explained_field_by_field(ask: Run) -> None:
    """Each field the server refuses is a line on stderr; the exit status is 2."""
    shown = ask("--lat", "91", "--lng", "2", "--placement", "x" * 200)

    assert (2, "") == (shown.status, shown.out)
    assert [
        "offers: the server refuses the request:",
        "  context.location.point.latitude: 91.0 is out of range: send degrees from -90 to 90",
        "  placement: 200 characters: send at most 128",
    ] == shown.err.splitlines()


def test_without_a_server_it_tells_how_to_start_one(offers: Run) -> None:
    """Nothing listening is one clear line and exit status 3."""
    shown = offers("query", "--target", "127.0.0.1:1")

    message = "offers: no server at 127.0.0.1:1: start one with 'offers serve', or name another with --target\n"
    assert Outcome(3, "", message) == shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--lat", "48"), "give both or neither"),
        (("--user", "u", "--anonymous", "a"), "give one"),
        (("--at", "25:00"), "is no instant"),
        (("--at", "soon"), "is no instant"),
        (("--at", "12"), "is no instant"),
        (("--at", "20261124T121500Z"), "is no instant"),
        (("--at", "2026-1-4 12:15"), "is no instant"),
        (("--at", "2026-11-24T12:15:00+99:99"), "is no instant"),
        (("--lat", "48", "--lng", "2", "--observed-at", "soon"), "--observed-at 'soon' is no instant"),
        (("--observed-at", "2026-01-24 12:15"), "give them too"),
        ((*PARIS_NOON, "--observed-at", "12:16"), "is after the instant asked for, 2026-11-24 12:15"),
        ((*PARIS_NOON, "--moving", "driving"), "give --observed-at too"),
        ((*PARIS_NOON, "--observed-at", "12:10", "--moving", "flying"), "'flying' is not one of 'walking', 'cycling'"),
        (("--time-zone", "Mars/Olympus"), "unknown time zone 'Mars/Olympus'"),
        (("--time-zone", "../zone"), "unknown time zone '../zone'"),
        (("--max-offers", "0"), "--max-offers"),
        (("--seed", "-1"), "out of range"),
    ],
)
def test_what_cannot_be_asked_is_told_before_asking(offers: Run, arguments: tuple[str, ...], told: str) -> None:
    """Options that make no request are explained without a server; the exit status is 2."""
    shown = offers("query", "--target", "127.0.0.1:1", *arguments)

    assert 2 == shown.status
    assert told in shown.err


def test_serve_refuses_a_bad_setting(offers: Run) -> None:
    """A setting out of range is named, and nothing starts; the exit status is 2."""
    shown = offers("serve", "--port", "70000", "--drain-s", "-1")

    assert 2 == shown.status
    assert "port: " in shown.err
    assert "drain_s: " in shown.err


def test_serve_runs_with_settings_of_flags_and_file_until_told_to_stop(tmp_path: Path, offers: Run) -> None:
    """A flag goes before the file; SIGTERM ends the server with exit status 0."""
    document = tmp_path / "catalog.yaml"
    document.write_text(CATALOGUE, "utf-8")
    config = tmp_path / "offers.toml"
    config.write_text(f'catalogs = ["{document}"]\nworkers = 1\ndrain_s = 0\nport = 1\ndata_dir = "{tmp_path}"\n')
    command = [sys.executable, "-m", "offers", "serve", "--config", str(config), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            serving_line = next(line for line in server.stderr if '"worker_serving"' in line)
            shown = offers("query", "--target", f"127.0.0.1:{json.loads(serving_line)['port']}")
        finally:
            server.terminate()

        assert "Welcome" in shown.out
        assert 0 == server.wait(30)


def test_validate_counts_what_is_in_a_good_document(tmp_path: Path, offers: Run) -> None:
    """For a document without faults, the numbers of its elements are printed."""
    document = tmp_path / "catalog.yaml"
    document.write_text(CATALOGUE, "utf-8")

    shown = offers("validate", document)

    counts = "4 offers, 0 venues, 1 zone, 1 placement, 0 ranking strategies"
    assert Outcome(0, f"{document}: the catalogue 'test' is good: {counts}\n", "") == shown


def test_validate_tells_every_problem(tmp_path: Path, offers: Run) -> None:
    """Problems are lines with file, line and field on stdout; their number is on stderr, and the exit status is 1."""
    document = tmp_path / "catalog.yaml"
    document.write_text(
        CATALOGUE.replace("percent_off: 20", "percent_off: 120").replace("[centre]", "[center]"), "utf-8"
    )

    shown = offers("validate", document)

    assert (1, "offers: 2 problems\n") == (shown.status, shown.err)
    percent, zone = shown.out.splitlines()
    assert percent.startswith(f"{document}:11: offers[0].benefit.percent_off: ")
    assert zone.startswith(f"{document}:17: offers[1].target.zone_ids[0]: ")


def test_validate_json_is_a_line_per_problem(tmp_path: Path, offers: Run) -> None:
    """`--json` prints problems for programs."""
    document = tmp_path / "catalog.yaml"
    document.write_text(CATALOGUE.replace("percent_off: 20", "percent_off: 120"), "utf-8")

    shown = offers("validate", "--json", document)

    (problem,) = map(json.loads, shown.out.splitlines())
    assert {"file", "line", "field", "reason", "fix"} == problem.keys()
    assert (str(document), 11, "offers[0].benefit.percent_off") == (problem["file"], problem["line"], problem["field"])
    assert 1 == shown.status


def test_validate_names_hours_that_others_read_differently(tmp_path: Path, offers: Run) -> None:
    """Each of the hours whose readings differ is one note with its first place; the document is good all the same."""
    hours = ("Mo-Su 18:00-03:00; PH off", "Mo-Fr 09:00-17:00; PH off", "Mo-Su 18:00-03:00; PH off")
    document = tmp_path / "catalog.yaml"
    document.write_text(
        "catalog_id: nights\ncountry_code: DE\noffers:\n"
        + "".join(
            f"- {{offer_id: o{number}, title: Bar, benefit: {{percent_off: 5}}, target: {{everywhere: true}}, "
            f"availability: {{opening_hours: '{text}'}}}}\n"
            for number, text in enumerate(hours)
        ),
        "utf-8",
    )

    shown, as_json = offers("validate", document), offers("validate", "--json", document)

    note, good = shown.out.splitlines()
    assert note.startswith(f"note: {document}:4: 'Mo-Su 18:00-03:00; PH off': on ")
    assert good.startswith(f"{document}: the catalogue 'nights' is good")
    assert (0, 0, "") == (shown.status, as_json.status, as_json.out)
    assert note in as_json.err


class Import(NamedTuple):
    """The files of an import."""

    run: Callable[..., Outcome]
    out: Path
    rejects: Path


@pytest.fixture
def importing(tmp_path: Path, offers: Run) -> Import:
    """Import tables with MAPPING into a YAML document."""
    (tmp_path / "mapping.yaml").write_text(MAPPING, "utf-8")
    out = tmp_path / "catalog.yaml"

    def run(table: str, *options: str | Path) -> Outcome:
        (tmp_path / "table.csv").write_text(table, "utf-8")
        return offers("import", "--map", tmp_path / "mapping.yaml", tmp_path / "table.csv", "-o", out, *options)

    return Import(run, out, tmp_path / "catalog.yaml.rejects.csv")


def test_import_writes_a_document_that_is_good(importing: Import, offers: Run) -> None:
    """Rows become offers of a document that passes validation; the counts go to stderr."""
    shown = importing.run("id,title\na,One\nb,Two\n")

    assert Outcome(0, "", f"2 rows: 2 offers, 0 rejects; written to {importing.out}\n") == shown
    assert "2 offers" in offers("validate", importing.out).out
    assert {"catalog.yaml", "mapping.yaml", "table.csv"} == {path.name for path in importing.out.parent.iterdir()}


def test_import_lists_rejects_and_goes_on(importing: Import) -> None:
    """Rows that cannot be imported are listed with line and reason; the others are written."""
    shown = importing.run("id,title\na,One\na,Two\nb,\n")

    assert 0 == shown.status
    assert ["3", "offer_id: 'a' is already the id of line 2"] == row(shown, "3")
    assert row(shown, "4")[1].startswith("title: ")
    assert f"3 rows: 1 offer, 2 rejects; written to {importing.out}\n" == shown.err
    assert not importing.rejects.exists()


def test_import_strict_writes_nothing_where_a_row_is_rejected(importing: Import) -> None:
    """`--strict` makes a reject an error: exit status 1, and no document."""
    shown = importing.run("id,title\na,One\na,Two\n", "--strict")

    assert (1, f"offers: 2 rows: 1 offer, 1 reject; {importing.out} is not written\n") == (shown.status, shown.err)
    assert not importing.out.exists()


def test_import_of_no_row_is_an_error(importing: Import) -> None:
    """If every row is rejected, no document is written, and the exit status is 1."""
    shown = importing.run("id,title\na,\n")

    assert 1 == shown.status
    assert not importing.out.exists()


def test_import_writes_all_rejects_to_a_file_where_there_are_many(importing: Import) -> None:
    """If there are over twenty rejects, all are in a file, too; an import with fewer removes the file."""
    rows = "".join(f"{number},\n" for number in range(21))

    shown = importing.run(f"id,title\na,One\n{rows}")

    assert 0 == shown.status
    assert row(shown, "22")[0] == "22"
    assert "│ 23 " not in shown.out
    assert f"and 1 more: all are in {importing.rejects}\n" in shown.err
    listed = importing.rejects.read_text("utf-8").splitlines()
    assert "line,reason" == listed[0]
    assert [str(line) for line in range(3, 24)] == [line.partition(",")[0] for line in listed[1:]]
    importing.run("id,title\na,One\n")
    assert not importing.rejects.exists()


def test_import_reads_lookup_tables(importing: Import, tmp_path: Path) -> None:
    """`--table name=path` sets the file of a lookup table of the mapping; an unknown table is an error."""
    (tmp_path / "names.csv").write_text("id,title\na,One\n")

    shown = importing.run("id,title\na,One\n", "--table", f"names={tmp_path / 'names.csv'}")

    assert 1 == shown.status
    assert "tables.names" in shown.err
    assert 2 == importing.run("id,title\na,One\n", "--table", "names").status


def test_import_counts_features_and_what_they_become(offers: Run, tmp_path: Path) -> None:
    """The rejects of a GeoJSON file are listed by feature, and the counts name each kind of message."""
    mapping = 'catalog: {catalog_id: test}\nzone: {zone_id: "{name}", areas: ["{$geometry}"]}\nvenue:\n'
    mapping += '  venue_id: "{name}"\n  point: {$position: "{$geometry}"}\n'
    (tmp_path / "mapping.yaml").write_text(mapping, "utf-8")
    ring = [[2, 48], [3, 48], [3, 49], [2, 48]]
    geometries = [{"type": "Polygon", "coordinates": [ring]}, {"type": "Point", "coordinates": [2, 48]}]
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": geometry}
        for name, geometry in zip("ab", geometries, strict=True)
    ]
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    out = tmp_path / "places.yaml"
    shown = offers("import", "--map", tmp_path / "mapping.yaml", tmp_path / "t.geojson", "-o", out)

    assert (0, f"2 features: 1 venue, 1 zone, 1 reject; written to {out}\n") == (shown.status, shown.err)
    assert "feature" in shown.out
    assert "is a Point, which has no area" in shown.out


def test_import_refuses_an_output_it_cannot_write(importing: Import, tmp_path: Path) -> None:
    """An unknown suffix is refused before the import, a missing folder after it; no file is left behind."""
    unknown = importing.run("id,title\na,One\n", "-o", tmp_path / "catalog.txt")
    missing = importing.run("id,title\na,One\n", "-o", tmp_path / "missing" / "catalog.yaml")

    assert 2 == unknown.status
    assert "name it .yaml, .json or .binpb" in unknown.err
    assert (1, "No such file or directory") == (missing.status, missing.err.strip().rpartition(": ")[2])
    assert not (tmp_path / "missing").exists()


def test_compile_makes_a_snapshot_once(tmp_path: Path, offers: Run) -> None:
    """The first line is the path of the snapshot; the second time, the snapshot exists already."""
    document = tmp_path / "catalog.yaml"
    document.write_text(CATALOGUE, "utf-8")

    first, second = (offers("compile", document, "--data-dir", tmp_path / "data") for _ in range(2))

    path, summary = first.out.splitlines()
    snapshot = open_snapshot(Path(path))
    assert tmp_path / "data" / "snapshots" / snapshot.version == Path(path)
    assert f"catalogue 'test', version {snapshot.version}, compiled in " in summary
    assert f": 4 offers, 4 entries, {snapshot.size:,} bytes" in summary
    assert "there already" in second.out


def test_compile_tells_the_problems_of_a_document(tmp_path: Path, offers: Run) -> None:
    """Problems go to stderr; the exit status is 1."""
    shown = offers("compile", tmp_path / "missing.yaml", "--data-dir", tmp_path)

    assert (1, "") == (shown.status, shown.out)
    assert f"{tmp_path / 'missing.yaml'}: cannot be read: No such file or directory" in shown.err


def money(units: int, nanos: int = 0, currency: str = "EUR") -> Money:
    """Make a sum."""
    return Money(currency_code=currency, units=units, nanos=nanos)


@pytest.mark.parametrize(
    ("benefit", "told"),
    [
        (Benefit(percent_off=12.5), "−12.5 %"),  # noqa: RUF001 - a minus sign
        (Benefit(percent_off=50, maximum_discount=money(12)), "−50 %, up to €12"),  # noqa: RUF001 - a minus sign
        (Benefit(amount_off=money(5), minimum_order=money(20)), "€5 off, from €20"),
        (Benefit(fixed_price=money(13, 900_000_000)), "€13.90"),
        (Benefit(fixed_price=money(0, 5_000_000, "KWD")), "KWD 0.005"),
        (Benefit(fixed_price=money(1_200, currency="JPY")), "¥1,200"),
        (Benefit(free_delivery=FreeDelivery()), "free delivery"),
        (Benefit(free_delivery=FreeDelivery(maximum_distance_m=3000)), "free delivery within 3.0 km"),
        (Benefit(bundle=Bundle(quantity=3, paid_quantity=2, items="Pizzas")), "3 for 2"),
        (Benefit(bundle=Bundle(quantity=1, paid_quantity=0)), "1 for free"),
        (Benefit(bundle=Bundle(quantity=2, paid_quantity=2, items="Tea and cake")), "Tea and cake"),
        (Benefit(custom="a smile"), "a smile"),
    ],
)
def test_benefits_in_words(benefit: Benefit, told: str) -> None:
    """Each kind of benefit is said as people say it, with its terms."""
    assert told == words.benefit_words(benefit)


@pytest.mark.parametrize(
    ("metres", "told"),
    [(0.0, "0 m"), (449.6, "450 m"), (999.4, "999 m"), (999.6, "1.0 km"), (1234.0, "1.2 km"), (1_500_000, "1,500 km")],
)
def test_distances_in_words(metres: float, told: str) -> None:
    """Metres below a kilometre, kilometres from there on."""
    assert told == words.distance_words(metres)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("2026-11-24T22:30:00Z", "23:30"),
        ("2026-11-24T23:30:00Z", "Wed 25 Nov 00:30"),
        ("2026-12-31T23:00:00Z", "1 Jan 2027 00:00"),
    ],
)
def test_ends_in_words(end: str, told: str) -> None:
    """The end of an offer is told by the clock of the zone, as fully as it is far away."""
    zone = ZoneInfo("Europe/Paris")
    until = Timestamp()
    until.FromJsonString(end)

    assert told == words.until_words(Proposition(valid_until=until), datetime(2026, 11, 24, 12, 15, tzinfo=zone), zone)


def test_counts_are_told_with_their_noun() -> None:
    """One is singular, and many are grouped."""
    assert ["1 offer", "0 offers", "19,413 entries"] == [
        counted(1, "offer"),
        counted(0, "offer"),
        counted(19_413, "entry", "entries"),
    ]
