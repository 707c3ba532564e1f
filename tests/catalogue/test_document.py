"""Documents of every form are read by the schema, and reading continues after their faults."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.catalogue.document import formats, nodes, read, write_document, write_fragments
from offers.errors import Problem
from offers.v1.catalog_pb2 import Catalog
from offers.v1.ranking_pb2 import Decay

SUFFIXES = [".yaml", ".yml", ".json", ".binpb"]


def read_all(source: Path) -> tuple[Catalog, list[Problem]]:
    """Return all fragments of a source merged, and the problems."""
    problems: list[Problem] = []
    merged = Catalog()
    for fragment in read(source, problems):
        merged.MergeFrom(fragment.catalog)
    return merged, problems


def read_text(folder: Path, text: str | bytes, suffix: str = ".yaml") -> tuple[Catalog, list[Problem]]:
    """Read a text as a document."""
    path = folder / f"catalog{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_all(path)


def sample(*texts: str) -> Catalog:
    """Build a catalogue that uses every kind of field, with an offer for each text."""
    catalog = Catalog(catalog_id="sample", title="Sample", country_code="NO", time_zone="Europe/Oslo")
    venue = catalog.venues.add(venue_id="1e3", title="null", radius_m=0.1)
    venue.point.latitude, venue.point.longitude = -0.0, 1e-7
    venue.labels.update({text: text for text in texts})
    strategy = catalog.ranking_strategies.add(ranking_strategy_id="s")
    strategy.nearness.shape, strategy.nearness.scale = Decay.SHAPE_LINEAR, 1e21
    strategy.weights.lever = 0
    catalog.placements.add(placement_id="p", max_offers=0)
    for number, text in enumerate(texts):
        offer = catalog.offers.add(offer_id=f"{number}", title=text, category=text, channels=[text, "app"])
        offer.benefit.amount_off.currency_code = "NOK"
        offer.benefit.amount_off.units = -(2**63)
        offer.benefit.amount_off.nanos = 999_999_999
        offer.target.everywhere = True
        offer.target.areas.append(text)
        offer.redemption.required_when_shown = True
        offer.availability.windows.add().start_time.CopyFrom(Timestamp(seconds=number - 1, nanos=number))
    offer = catalog.offers.add()
    offer.benefit.free_delivery.SetInParent()
    offer.target.SetInParent()
    return catalog


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_reads_the_same(suffix: str, tmp_path: Path) -> None:
    """A catalogue written in any form reads as the same message, for texts that YAML or JSON could take otherwise."""
    catalog = sample(
        *("NO", "yes", "~", "null", "Null", "", " ", " a", "a ", "012", "1_000", "0x1F", "1:30", "2026-03-01", "<<"),
        *("a: b", "# c", "- d", "*e", "&f", "!g", "%h", "@i", "`j", "{k", "[l", "'m", '"n', "|", ">", "?", "=", ".nan"),
        *(
            "two\nlines",
            "\ttab",
            "\r\n",
            "\x00",
            "\x7f",
            "\x85",
            "\u2028",
            "\ufeff",
            "\uffff",
            "🍜 ramen",
            "é",
            "\\u00e9",
        ),
        "long " * 300,
    )
    path = tmp_path / f"catalog{suffix}"
    write_document(path, catalog)
    assert (catalog, []) == read_all(path)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=4), suffix=st.sampled_from(SUFFIXES))
def test_any_text_reads_the_same(texts: list[str], suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any text at all survives being written and read."""
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    write_document(path, sample(*texts))
    assert (sample(*texts), []) == read_all(path)


def test_written_yaml_is_readable(tmp_path: Path) -> None:
    """YAML is written in blocks under the names of the schema, with quotes only where a text needs them."""
    catalog = Catalog(catalog_id="oslo", country_code="NO")
    catalog.offers.add(offer_id="one", title="Fish of the day").target.venue_ids.append("harbour")
    write_document(tmp_path / "catalog.yaml", catalog)
    expected = (
        "catalog_id: oslo\ncountry_code: 'NO'\noffers:\n- offer_id: one\n"
        "  title: Fish of the day\n  target:\n    venue_ids:\n    - harbour\n"
    )
    assert expected == (tmp_path / "catalog.yaml").read_text()


def test_both_spellings_of_names_and_numbers(tmp_path: Path) -> None:
    """snake_case and lowerCamelCase names, and whole numbers as numbers, texts or 5.0, read the same."""
    snake = """
offers:
- offer_id: "one"
  benefit: {amount_off: {currency_code: EUR, units: 5}}
  availability: {windows: [{start_time: 2026-03-01T09:00:00Z}]}
placements: [{placement_id: a, max_offers: 10}]
ranking_strategies: [{ranking_strategy_id: a, nearness: {shape: SHAPE_EXP}}]
"""
    camel = """
offers:
- offerId: one
  benefit: {amountOff: {currencyCode: EUR, units: "5"}}
  availability: {windows: [{startTime: "2026-03-01T10:00:00+01:00"}]}
placements: [{placementId: a, maxOffers: 1.0e1}]
rankingStrategies: [{rankingStrategyId: a, nearness: {shape: 2}}]
"""
    expected, problems = read_text(tmp_path, snake)
    assert [] == problems
    assert (expected, []) == read_text(tmp_path, camel)
    assert 1_772_355_600 == expected.offers[0].availability.windows[0].start_time.seconds


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("2026-03-01t09:00:00z", 0),
        ("2026-03-01T09:00:00.1234567891234Z", 123_456_789),
        ("2026-03-02T08:59:00+23:59", 0),
    ],
)
def test_instants_are_read_by_rfc_3339(text: str, nanos: int, tmp_path: Path) -> None:
    """Lower case, any number of decimals, and offsets to 23:59."""
    document = "offers: [{{offer_id: a, availability: {{windows: [{{start_time: {}}}]}}}}]\n"
    catalog, problems = read_text(tmp_path, document.format(text))
    assert [] == problems
    assert Timestamp(seconds=1_772_355_600, nanos=nanos) == catalog.offers[0].availability.windows[0].start_time


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-03-01T09:00:00+24:00", "its offset is beyond 23:59"),
        ("2026-03-01T09:00:60Z", "second 60 is only in 23:59:60 UTC, on the last day of a month"),
    ],
)
def test_instants_that_do_not_exist_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    """The reason is that of the instant."""
    document = f"offers: [{{offer_id: a, availability: {{windows: [{{start_time: {text}}}]}}}}]\n"
    (problem,) = read_text(tmp_path, document)[1]
    assert f"'{text}' is not an instant: {reason}" == problem.reason


@pytest.mark.parametrize("text", ["NO", "yes", "on", "2026-03-01", "12", "0777", "1:30", "Null", ".inf", "1.50"])
def test_plain_yaml_text_stays_as_written(text: str, tmp_path: Path) -> None:
    """A text field takes what is written, also where YAML would make a boolean, a date or a number of it."""
    assert (Catalog(title=text), []) == read_text(tmp_path, f"title: {text}\n")


@pytest.mark.parametrize("text", ["title:", "title: ~", "title: null", "offers:", "time_zone: # none"])
def test_no_value_is_as_good_as_no_field(text: str, tmp_path: Path) -> None:
    """A name without a value leaves the field out, as null does in JSON."""
    assert (Catalog(catalog_id="a"), []) == read_text(tmp_path, f"catalog_id: a\n{text}\n")


def test_aliases_stand_for_values(tmp_path: Path) -> None:
    """An alias gives the value it names, a list or map or text, as often as it is used."""
    text = """
offers:
- {offer_id: a, title: &title Lunch, availability: &noon {opening_hours: "12:00-14:00"}}
- {offer_id: b, title: *title, availability: *noon}
"""
    catalog, problems = read_text(tmp_path, text)
    assert [] == problems
    assert ["Lunch", "Lunch"] == [offer.title for offer in catalog.offers]
    assert "12:00-14:00" == catalog.offers[1].availability.opening_hours


def test_json_of_other_writers(tmp_path: Path) -> None:
    """Tabs, a byte order mark, CRLF, surrogate pairs and names without a space after the colon are all JSON."""
    text = '\ufeff{\r\n\t"catalog_id":"a",\r\n\t"title":"\\ud83c\\udf5c \\u00e9\\/\\n",\r\n\t"offers":[]\r\n}\r\n'
    assert (Catalog(catalog_id="a", title="🍜 é/\n"), []) == read_text(tmp_path, text, ".json")


def test_a_byte_order_mark_in_yaml(tmp_path: Path) -> None:
    """A byte order mark before YAML is skipped."""
    assert (Catalog(title="a"), []) == read_text(tmp_path, "\ufefftitle: a\n")


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("catalog_id: a\noffers:\n- offer_id: b\n  target:\n    venueIds:\n    - c\n    - d\n", ".yaml"),
        ('{"catalog_id": "a",\n"offers": [\n{"offer_id": "b",\n"target": {\n"venueIds": [\n"c",\n"d"]}}]}', ".json"),
    ],
)
def test_lines_of_values(text: str, suffix: str, tmp_path: Path) -> None:
    """A fragment knows the line of a value under either spelling, or of the nearest one around a missing value."""
    path = tmp_path / f"catalog{suffix}"
    path.write_text(text)
    (fragment,) = read(path, [])
    assert 7 == fragment.line_of(("offers", 0, "target", "venue_ids", 1))
    assert 4 == fragment.line_of(("offers", 0, "target", "radius_m"))
    assert 3 == fragment.line_of(("offers", 0, "title"))
    assert 2 == fragment.line_of(("offers", 9))
    assert 1 == fragment.line_of(("title",))


def test_reading_goes_on_after_a_fault(tmp_path: Path) -> None:
    """A value that does not fit is left out and reported, and all others keep their index."""
    path = tmp_path / "catalog.yaml"
    path.write_text("offers:\n- text\n- {offer_id: b, value: high, lever: 0.25}\n")
    problems: list[Problem] = []
    (fragment,) = read(path, problems)
    assert {("offers", 0), ("offers", 1, "value")} == fragment.left_out
    assert ["offers[0]", "offers[1].value"] == [problem.field for problem in problems]
    assert ["", "b"] == [offer.offer_id for offer in fragment.catalog.offers]
    assert 0.25 == fragment.catalog.offers[1].lever


def test_folders_are_read_in_order(tmp_path: Path) -> None:
    """A folder gives its documents sorted by path, and no hidden files, hidden folders or other suffixes."""
    for name in ("b.yaml", "a/z.JSON", "a.yml", ".hidden.yaml", ".hidden/x.yaml", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"catalog_id": "a"}')
    problems: list[Problem] = []
    found = [Path(fragment.file).relative_to(tmp_path).as_posix() for fragment in read(tmp_path, problems)]
    assert ["a.yml", "a/z.JSON", "b.yaml"] == sorted(found)
    assert found == [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path / name for name in found)]
    assert [] == problems


def test_records_are_read_one_at_a_time(tmp_path: Path) -> None:
    """The first record is yielded before the next is read, which turns out to be damaged."""
    path = tmp_path / "catalog.binpb"
    assert 2 == write_fragments(path, [Catalog(catalog_id="a"), Catalog(title="b")])
    path.write_bytes(path.read_bytes()[:-1])
    problems: list[Problem] = []
    stream = read(path, problems)
    first = next(stream)
    assert ("a", "record 1: ", None) == (first.catalog.catalog_id, first.label, first.line_of(("catalog_id",)))
    assert [] == problems
    assert [] == list(stream)
    assert ["record 2 at byte 4 is cut off, or this is not a stream of records"] == [it.reason for it in problems]


def test_large_catalogues_are_split_into_records(tmp_path: Path) -> None:
    """A .binpb document holds its single values first and then at most a thousand messages in a record."""
    catalog = Catalog(catalog_id="a")
    for number in range(2_500):
        catalog.offers.add(offer_id=str(number))
    write_document(tmp_path / "catalog.binpb", catalog)
    fragments = list(read(tmp_path / "catalog.binpb", []))
    assert [0, 1000, 1000, 500] == [len(fragment.catalog.offers) for fragment in fragments]


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_geojson_as_it_stands(suffix: str, tmp_path: Path) -> None:
    """An area may be written as a map: it becomes a text with the same numbers, to the digit."""
    text = """{"zones": [{"areas": [
        {"type": "Polygon", "bbox": null, "coordinates": [[[2.30, -48.80000000000000000001], [1e-3, 0]]]},
        "any text", {"a\\"b": [true, "true", "1", {}, []]}]}]}"""
    catalog, problems = read_text(tmp_path, text, suffix)
    assert [] == problems
    assert [
        '{"type":"Polygon","bbox":null,"coordinates":[[[2.30,-48.80000000000000000001],[1e-3,0]]]}',
        "any text",
        '{"a\\"b":[true,"true","1",{},[]]}',
    ] == list(catalog.zones[0].areas)


def test_numbers_of_yaml_in_geojson(tmp_path: Path) -> None:
    """Numbers that only YAML writes so become JSON's; what is no number stays a text."""
    text = "zones: [{areas: [{a: [+1.5, .5, 2., -.5e1, 0x1F, .nan, yes, 1_000, 012, '3', ]}]}]"
    catalog, problems = read_text(tmp_path, text)
    assert [] == problems
    wanted = '{"a":[1.5,0.5,2.0,-5.0,"0x1F",".nan","yes","1_000","012","3"]}'
    assert wanted == catalog.zones[0].areas[0]


def test_faults_in_maps(tmp_path: Path) -> None:
    """Faults inside labels and areas are reported with their lines, and the rest is read."""
    text = """venues:
- labels:
    cuisine: ramen
    open:
    chain: [a]
    cuisine: sushi
- labels: ramen
zones:
- areas:
  - type: Polygon
    properties:
      b: 1
      b: 2
  - 5
  - [1]
"""
    catalog, problems = read_text(tmp_path, text)
    assert [
        (4, "venues[0].labels.open", "an empty value is not a text"),
        (5, "venues[0].labels.chain", "a list is not a text"),
        (6, "venues[0].labels.cuisine", "given twice, first on line 3"),
        (7, "venues[1].labels", "'ramen' is not a map"),
        (13, "zones[0].areas[0].properties.b", "given twice, first on line 12"),
        (15, "zones[0].areas[2]", "a list is not a text or a map of GeoJSON"),
    ] == [(it.line, it.field, it.reason) for it in problems]
    assert {"cuisine": "ramen"} == dict(catalog.venues[0].labels)
    assert ['{"type":"Polygon","properties":{"b":1}}', "5", ""] == list(catalog.zones[0].areas)


def test_what_is_too_large_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text or record over the limit is a problem of its own, and the next record is read all the same."""
    monkeypatch.setattr(formats, "MAX_FRAGMENT_BYTES", 8)
    write_fragments(tmp_path / "a.binpb", [Catalog(title="123456789"), Catalog(title="12")])
    (tmp_path / "b.yaml").write_text("title: abc")
    catalog, problems = read_all(tmp_path)
    assert Catalog(title="12") == catalog
    assert ["a.binpb", "b.yaml"] == [Path(problem.file).name for problem in problems]
    assert all("is larger than" in problem.reason and "records" in problem.fix for problem in problems)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    """A path that is missing, empty, of another suffix or no file is a problem, not an exception."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere.yaml")
    expected = {
        "missing.yaml": "No such file",
        "a\0b.yaml": "null byte",
        "pipe.yaml": "neither a file nor a folder",
        "notes.txt": "'.txt' is not the suffix",
        "folder": "no catalogue document",
        "link.yaml": "No such file",
    }
    for name, reason in expected.items():
        catalog, (problem,) = read_all(tmp_path / name)
        assert Catalog() == catalog
        assert reason in problem.reason
        assert problem.fix
    in_folder = read_all(tmp_path)[1]
    assert ["link.yaml", "pipe.yaml"] == [Path(problem.file).name for problem in in_folder]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a" 1}', "found '1' in place of ':'"),
        ("{1: 2}", "found '1' in place of a field name"),
        ('{"a": 1 "b": 2}', "found '\"b\"' in place of ',' or '}'"),
        ('{"a": [1 2]}', "found '2' in place of ',' or ']'"),
        ('{"a": [1,]}', "a comma stands before ']'"),
        ('{"a": ,}', "found ',' in place of a value"),
        ('{"a": 01}', "found '01}' in place of a value"),
        ('{"a": "\t"}', "found '\"\\t\"}' in place of a value"),
        ('{"a": "b', "found '\"b' in place of a value"),
        ("{", "found 'the end of the file' in place of a field name"),
    ],
)
def test_json_is_read_strictly(text: str, reason: str, tmp_path: Path) -> None:
    """A text that is not JSON is refused with the text found and the text expected."""
    (problem,) = read_text(tmp_path, text, ".json")[1]
    assert f"not JSON: {reason}" in problem.reason
    assert 1 == problem.line


def test_texts_that_cannot_be_encoded(tmp_path: Path) -> None:
    """Half of a surrogate pair in a list of texts is left out, and the texts around it keep their numbers."""
    text = '{"offers": [{"channels": ["app", "\\ud83c", "web"]}]}'
    catalog, (problem,) = read_text(tmp_path, text, ".json")
    assert "offers[0].channels[1]" == problem.field
    assert ["app", "", "web"] == catalog.offers[0].channels


def test_a_length_without_an_end(tmp_path: Path) -> None:
    """A length of more than ten bytes is refused."""
    (problem,) = read_text(tmp_path, b"\xff" * 20, ".binpb")[1]
    assert "record 1 at byte 0 is cut off, or this is not a stream of records" == problem.reason


def test_an_unknown_suffix_is_not_written(tmp_path: Path) -> None:
    """Writing refuses a suffix that reading would."""
    with pytest.raises(ValueError, match=r"name it \.yaml"):
        write_document(tmp_path / "catalog.txt", Catalog())


YAML_PIECES = [
    *("catalog_id", "offers", "title", "benefit", "kind", "one", "- ", "  ", "\n", ": ", "? ", "&a ", "*a", "!!int "),
    *("{", "}", "[", "]", ",", "'", '"', "|", ">", "#", "%YAML 1.2", "---", "...", "<<", "~", "\t", "\\ud83c", "\\x41"),
    *("1", "-", ".nan", "2026-03-01T00:00:00Z", "é", "🍜", "\x00", "\x85", "\ufeff"),
]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(YAML_PIECES), max_size=25), suffix=st.sampled_from(SUFFIXES))
def test_nonsense_is_a_problem(pieces: list[str], suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Text that looks like YAML or JSON never raises: it is read, or reported with reason and fix."""
    check_nonsense("".join(pieces).encode(), suffix, tmp_path_factory)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), suffix=st.sampled_from(SUFFIXES))
def test_random_bytes_are_a_problem(data: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes of any kind never raise."""
    check_nonsense(data, suffix, tmp_path_factory)


def check_nonsense(data: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read some bytes; either there is a fragment, or a problem, or both."""
    path = tmp_path_factory.getbasetemp() / f"nonsense{suffix}"
    path.write_bytes(data)
    problems: list[Problem] = []
    fragments = list(read(path, problems))
    assert fragments or problems
    assert all(problem.reason and problem.fix for problem in problems)
    last = len((data.decode(errors="replace") + "$").splitlines())
    assert all(problem.line is None or 1 <= problem.line <= last for problem in problems)


@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.sampled_from(YAML_PIECES), max_size=25))
def test_yaml_without_libyaml(pieces: list[str]) -> None:
    """PyYAML's own parser, where libyaml is missing, raises nothing else either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "_YAML_LOADER", yaml.SafeLoader)
        reports: list[Any] = []
        try:
            nodes.read_yaml("".join(pieces), lambda *report: reports.append(report))
        except nodes.DocumentSyntaxError as error:
            reports.append(error)
        assert all(report is not None for report in reports)


def test_unknown_fields_of_a_record_are_a_problem(tmp_path: Path) -> None:
    """A binary record with a field this version does not know is not read as if it were not there."""
    path = tmp_path / "newer.binpb"
    record = Catalog(catalog_id="c").SerializeToString() + b"\xfa\x3e\x01x"  # field 1007
    path.write_bytes(bytes([len(record)]) + record)
    problems: list[Problem] = []
    list(read(path, problems))
    assert ["record 1 at byte 0 has fields that this version does not know"] == [one.reason for one in problems]
