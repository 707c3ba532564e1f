"""Faults of mapping files and their lookup tables: found before any row is read, and explained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offers.catalogue.importing import import_table
from offers.errors import CatalogError, Problem

MAPPING = """\
catalog:
  catalog_id: test
offer:
  offer_id: "{id}"
  title: "{what}"
  benefit: {custom: x}
  target: {everywhere: true}
"""


def write_mapping(folder: Path, elements: Mapping[str, Any], **parts: Any) -> Path:  # noqa: ANN401 - any YAML
    """Write the mapping with these elements added to its offer, or in place of its own."""
    document = yaml.safe_load(MAPPING.replace("{what}", "an offer"))
    document["offer"] |= elements
    path = folder / "mapping.yaml"
    path.write_text(yaml.safe_dump({**document, **parts}, sort_keys=False), encoding="utf-8")
    return path


def problems(mapping: Path, table: Path, **options: Any) -> list[Problem]:  # noqa: ANN401 - options of import_table
    """Return the problems that keep a file from being imported."""
    with pytest.raises(CatalogError) as caught:
        import_table(mapping, table, **options)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "reason", "fix"),
    [
        ('"{what}"', '"{waht}"', 5, "offer.title", "'waht' is not a column of the CSV file", "'what'"),
        ('"{what}"', "{what}", 5, "offer.title", "must be a single value", "quotes"),
        ('"{what}"', '"{what"', 5, "offer.title", "'{' stands alone", "{{"),
        ('"{what}"', '"{there[id].x}"', 5, "offer.title", "'there' is not a table", "(there is none)"),
        ('"{what}"', "", 5, "offer.title", "must be a single value", "leave it out"),
        ("title", "titel", 5, "offer.titel", "'titel' is not an element of Offer", "'title'"),
        ("title", "offer_id", 5, "offer", "'offer_id' is written twice", "remove"),
        ("{custom: x}", "x", 6, "offer.benefit", "must be a map", "name: value"),
        ("{custom: x}", "{percent_off: x}", 6, "offer.benefit.percent_off", "'x' is not a number", "correct"),
        ("{custom: x}", "{bundle: {quantity: 2}}", 6, "offer.benefit.bundle.paid_quantity", "is required", "add"),
        ("  benefit: {custom: x}\n", "", 4, "offer.benefit", "this element is required", "add it"),
        ("{custom: x}", "{[a]: x}", 6, "offer.benefit", "a key must be a word", "quotes"),
        ('"{what}"', '"{twice}"', 5, "offer.title", "the CSV has several columns 'twice'", "its own name"),
        ('"{what}"', '"{t[id].z}"', 5, "offer.title", "'t' is not a table that could be read", "(there is none)"),
        (
            "catalog_id: test",
            "catalog_id: {$first: []}",
            2,
            "catalog",
            "none of its elements has a value",
            "catalog_id",
        ),
        ("test", "{$first: []}\n  title: x", 2, "catalog.catalog_id", "has no value but is required", "correct"),
        ("catalog:", "tables: {t: {key: k, sort: x}}\ncatalog:", 1, "tables.t.sort", "'sort' is not an option", "file"),
        ("{everywhere: true}", "{circles: {}}", 7, "offer.target.circles", "must be a list", "- "),
        ("{everywhere: true}", "{$wen: x, then: y}", 7, "offer.target", "'$wen' is not an operator", "'$when'"),
        ("{everywhere: true}", "{$map: x, $first: y}", 7, "offer.target", "one operator at most", "$map"),
        ("{everywhere: true}", '{$map: "{id}"}', 7, "offer.target", "$map has no 'values'", "add it"),
        ("{everywhere: true}", "{$first: x}", 7, "offer.target", "$first needs a list", "- "),
        ("{everywhere: true}", "{$number: 5}", 7, "offer.target", "$number cannot make this element", "numbers"),
        ("{everywhere: true}", "{everywhere: maybe}", 7, "offer.target.everywhere", "'maybe' is not one of", "correct"),
        ("{custom: x}", "{percent_off: {$number: 5, time: 2}}", 6, "offer.benefit.percent_off", "'time'", "'times'"),
        ("{custom: x}", "{percent_off: {$number: 5, times: two}}", 6, "offer.benefit.percent_off", "times: 'two'", ""),
        ("catalog_id", "catalogue_id", 2, "catalog.catalogue_id", "'catalogue_id' is not", "'catalog_id'"),
        ("catalog_id: test", 'catalog_id: "{id}"', 2, "catalog.catalog_id", "'id' is not a column", "(there is none)"),
        ("catalog_id: test", "catalog_id: a b", 2, "catalog.catalog_id", "", ""),
        ("catalog_id: test", "catalog_id: t\n  offers: []", 3, "catalog.offers", "'offers' is not an element", ""),
        ("catalog:", "katalog:", 1, "katalog", "'katalog' is not a part of a mapping", "'catalog'"),
        ("catalog:", "csv: {encoding: utf-9}\ncatalog:", 1, "csv.encoding", "'utf-9' is not a text encoding", "utf-8"),
        ("catalog:", "csv: {encoding: base64}\ncatalog:", 1, "csv.encoding", "'base64' is not a text encoding", ""),
        ("catalog:", "csv: {delimiter: ab}\ncatalog:", 1, "csv.delimiter", "'ab' is not a delimiter", "one character"),
        ("catalog:", "csv: {null_values: NA}\ncatalog:", 1, "csv.null_values", "must be a list", "["),
        ("catalog:", "csv: {quote: x}\ncatalog:", 1, "csv.quote", "'quote' is not an option of csv", "encoding"),
        ("catalog:", "tables: {t: {}}\ncatalog:", 1, "tables.t", "the table has no 'key'", "column"),
        ("catalog:", "tables: {t: {key: k}}\ncatalog:", None, "tables.t", "the table has no file", "add 'file'"),
        ("catalog:", "catalog: [", 3, "", "is not YAML", "correct"),
        (MAPPING, "", None, "", "the mapping is empty", "catalog"),
        (MAPPING, "a: &a [*a]", 1, "", "contains itself", "keep it under"),
        (MAPPING, "[" * 5000, None, "", "is not a YAML text", "YAML"),
    ],
)
def test_faulty_mapping_is_explained(
    tmp_path: Path, old: str, new: str, line: int | None, field: str, reason: str, fix: str
) -> None:
    """A fault of the mapping is found before any row is read: its line, element, reason and what to write."""
    (tmp_path / "table.csv").write_text("id,what,twice,twice\n1,x,a,b\n", encoding="utf-8")
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING.replace(old, new, 1), encoding="utf-8")
    found = [problem for problem in problems(mapping, tmp_path / "table.csv") if problem.field == field]
    assert [] != found
    assert (str(mapping), line) == (found[0].file, found[0].line)
    assert reason in found[0].reason
    assert fix in found[0].fix


@pytest.mark.parametrize(
    ("element", "value", "reason"),
    [
        ("end_time", {"$time": "{id}", "format": "%Q"}, "format: 'Q' is a bad directive"),
        ("end_time", {"$time": "{id}", "time_zone": "Asia/Atlantis"}, "'Asia/Atlantis' is not a time zone"),
        ("end_time", {"$time": "{id}", "plus_days": 0.5}, "plus_days: 0.5 is not a number of days"),
        ("opening_hours", {"$hours": {"Funday": "{id}"}, "on": ["1"], "off": ["0"]}, "'Funday' is not a selector"),
        ("opening_hours", {"$hours": {"Mo": "{id}"}, "on": "1", "off": ["0"]}, "this must be a list of values"),
    ],
)
def test_faulty_option_is_explained(tmp_path: Path, element: str, value: dict[str, Any], reason: str) -> None:
    """Options of operators are checked with the mapping."""
    (tmp_path / "table.csv").write_text("id\n1\n", encoding="utf-8")
    redemption = {"opening_hours": value} if element == "opening_hours" else {"window": {element: value}}
    found = problems(write_mapping(tmp_path, {"redemption": redemption}), tmp_path / "table.csv")
    assert [True] == [reason in problem.reason for problem in found]


@pytest.mark.parametrize("operator", [{"$number": "{id}"}, {"$money": "{id}", "currency_code": "EUR"}])
def test_faulty_decimal_sign_is_explained(tmp_path: Path, operator: dict[str, Any]) -> None:
    """A decimal sign is a comma or a point."""
    (tmp_path / "table.csv").write_text("id\n1\n", encoding="utf-8")
    value = {**operator, "decimal": ";"}
    elements = {"value": value} if "$number" in operator else {"benefit": {"fixed_price": value}}
    (found,) = problems(write_mapping(tmp_path, elements), tmp_path / "table.csv")
    assert ("decimal: ';' is not a decimal sign", 'write "," or "."') == (found.reason, found.fix)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    """One attempt shows every problem of the mapping, the tables and the file."""
    elements = {"title": 5, "brandt": "x", "value": {"$number": "x"}, "lever": "{t[id].x}"}
    tables = {"t": {"file": "missing.csv", "key": "k"}}
    found = problems(write_mapping(tmp_path, elements, tables=tables), tmp_path / "absent.csv", tables={"u": tmp_path})
    assert {"tables.u", "offer.brandt", "offer.value", "offer.lever", ""} == {problem.field for problem in found}
    assert 2 == sum("cannot be read" in problem.reason for problem in found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("k,x\na,1\na,2\n", "'a' is there twice"), ("q,x\n", "'k' is not a column of"), ("k,x\na\n", "the row has 1")],
)
def test_faulty_table_is_explained(tmp_path: Path, text: str, reason: str) -> None:
    """A lookup table must have its key column, and each key once."""
    table, lookup = tmp_path / "table.csv", tmp_path / "lookup.csv"
    table.write_text("id\n1\n", encoding="utf-8")
    lookup.write_text(text, encoding="utf-8")
    mapping = write_mapping(tmp_path, {}, tables={"t": {"key": "k"}})
    assert [True] == [reason in problem.reason for problem in problems(mapping, table, tables={"t": lookup})]


def test_unknown_column_of_a_table_is_explained(tmp_path: Path) -> None:
    """A lookup must take a column that the table has."""
    table, lookup = tmp_path / "table.csv", tmp_path / "lookup.csv"
    table.write_text("id\n1\n", encoding="utf-8")
    lookup.write_text("k,city\n1,Paris\n", encoding="utf-8")
    (problem,) = problems(
        write_mapping(tmp_path, {"title": "{t[id].citty}"}, tables={"t": {"key": "k", "file": "lookup.csv"}}), table
    )
    assert ("'citty' is not a column of table 't'", "did you mean 'city'?") == (problem.reason, problem.fix)


def test_missing_mapping_is_explained(tmp_path: Path) -> None:
    """A mapping that is not there is a problem of that file."""
    (problem,) = problems(tmp_path / "absent.yaml", tmp_path / "table.csv")
    assert (str(tmp_path / "absent.yaml"), "cannot be read: No such file or directory") == (
        problem.file,
        problem.reason,
    )


@given(st.text(max_size=40) | st.sampled_from([MAPPING]).flatmap(lambda text: st.permutations(text.splitlines())))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mapping_breaks_the_import(tmp_path: Path, content: str | list[str]) -> None:
    """Whatever the mapping holds, it works or is refused with a CatalogError."""
    mapping, table = tmp_path / "mapping.yaml", tmp_path / "table.csv"
    mapping.write_text(content if isinstance(content, str) else "\n".join(content), encoding="utf-8")
    table.write_text("id,what\n1,x\n", encoding="utf-8")
    try:
        assert 1 == import_table(mapping, table).rows
    except CatalogError as error:
        assert () != error.problems  # noqa: PT017 - either end is fine
