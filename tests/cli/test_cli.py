"""The command line as its users meet it: what it prints where, and its exit statuses."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from offers.catalogue.snapshot import open_snapshot
from offers.cli.catalogues import counted
from tests.cli.running import CATALOGUE, Outcome, Run, row
from tests.paths import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
MAPPING = """
catalog: {catalog_id: test}
offer:
  offer_id: "{id}"
  title: "{title}"
  benefit: {custom: a smile}
  target: {everywhere: true}
"""


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


def test_compile_tells_where_it_cannot_write(tmp_path: Path, offers: Run) -> None:
    """A folder that cannot be written is an error of one line."""
    document = tmp_path / "catalog.yaml"
    document.write_text(CATALOGUE, "utf-8")

    shown = offers("compile", document, "--data-dir", document)

    assert (1, "") == (shown.status, shown.out)
    assert re.search(rf"^offers: .*Not a directory: '{document}/snapshots'$", shown.err, re.MULTILINE)


def test_counts_are_told_with_their_noun() -> None:
    """One is singular, and many are grouped."""
    assert ["1 offer", "0 offers", "19,413 entries"] == [
        counted(1, "offer"),
        counted(0, "offer"),
        counted(19_413, "entry", "entries"),
    ]
