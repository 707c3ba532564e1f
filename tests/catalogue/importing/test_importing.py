"""CSV import: every operator of the mapping language, every way a row or a mapping can be wrong."""

import codecs
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opening_hours import OpeningHours

from offers.catalogue.importing import ImportResult, Reject, import_table
from offers.catalogue.importing.cells import WEEKDAYS, hours
from offers.catalogue.importing.cells import number as parsed
from offers.errors import CatalogError, Problem
from offers.v1.offer_pb2 import Benefit, FreeDelivery, Offer

OFFER: dict[str, Any] = {
    "offer_id": "{id}",
    "title": "an offer",
    "benefit": {"custom": "a smile"},
    "target": {"everywhere": True},
}
FLAGS = {"Mo": "{mo}", "Tu": "{tu}", "PH -1 day": "{eve}", "PH": "{ph}"}


def write_mapping(folder: Path, offer: Mapping[str, Any], **parts: Any) -> Path:  # noqa: ANN401 - any YAML
    """Write a mapping for `offer` into a folder."""
    path = folder / "mapping.yaml"
    document = {"catalog": {"catalog_id": "test"}, "offer": offer, **parts}
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def run(folder: Path, table: str | bytes, elements: Mapping[str, Any], **parts: Any) -> ImportResult:  # noqa: ANN401
    """Import a table with the plainest offer and these elements instead of its own."""
    path = folder / "table.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    result = import_table(write_mapping(folder, {**OFFER, **elements}, **parts), path)
    assert result.rows == len(result.catalog.offers) + len(result.rejects)
    return result


def only(result: ImportResult) -> Offer:
    """Return the offer of a result that must have this one row."""
    assert () == result.rejects
    (offer,) = result.catalog.offers
    return offer


def problems(mapping: Path, table: Path, **options: Any) -> list[Problem]:  # noqa: ANN401 - options of import_table
    """Return the problems that keep a file from being imported."""
    with pytest.raises(CatalogError) as caught:
        import_table(mapping, table, **options)
    return list(caught.value.problems)


def seconds(text: str) -> Timestamp:
    """Return an instant written in ISO 8601."""
    return Timestamp(seconds=int(datetime.fromisoformat(text).timestamp()))


def test_templates_fill_in_columns(tmp_path: Path) -> None:
    """A template joins cells and words; doubled braces are braces; cells lose white space around them."""
    result = run(tmp_path, "id,what,n\na1, Sushi ,20\n", {"title": "{what}: {n}% {{off}}"})
    assert "Sushi: 20% {off}" == only(result).title


def test_element_is_absent_when_a_cell_is_empty(tmp_path: Path) -> None:
    """A template with an empty cell or a null marker makes no value, and a message without any value is absent."""
    elements = {"category": "about {what}", "creative": {"body": "{more}", "call_to_action": "{what}"}}
    offer = only(run(tmp_path, "id,what,more\na1,,NA\n", elements, csv={"null_values": ["NA"]}))
    assert "" == offer.category
    assert not offer.HasField("creative")


def test_empty_map_makes_an_empty_message(tmp_path: Path) -> None:
    """{} asks for a message that has no elements of its own."""
    offer = only(run(tmp_path, "id\na1\n", {"benefit": {"free_delivery": {}}}))
    assert Benefit(free_delivery=FreeDelivery()) == offer.benefit


def test_lookup_joins_a_table(tmp_path: Path) -> None:
    """A lookup takes a column of the table's row that the key names; the table may be written in its own way."""
    (tmp_path / "places.csv").write_text("name;lat;lng\nParis;48.85;2.35\n", encoding="utf-8")
    center = {"latitude": "{places[city].lat}", "longitude": "{places[city].lng}"}
    tables = {"places": {"file": "places.csv", "key": "name", "delimiter": ";"}}
    target = {"circles": [{"center": center, "radius_m": 500}]}
    result = run(tmp_path, "id,city\na1,Paris\na2,Lyon\n", {"target": target}, tables=tables)
    (circle,) = result.catalog.offers[0].target.circles
    assert (48.85, 2.35, 500) == (circle.center.latitude, circle.center.longitude, circle.radius_m)
    (reject,) = result.rejects
    assert (3, ("city",)) == (reject.row, reject.fields)
    assert "target.circles[0].center.latitude: 'Lyon' is not in table 'places'" in reject.reason


@pytest.mark.parametrize(("cell", "value"), [("50", 0.5), ("0", 0.01), ("7e2", 1.0), ("33.3", 0.333)])
def test_number_is_scaled_and_clamped(tmp_path: Path, cell: str, value: float) -> None:
    """$number multiplies exactly, then keeps the result between its limits."""
    elements = {"value": {"$number": "{rate}", "times": 0.01, "at_least": 0.01, "at_most": 1}}
    assert value == only(run(tmp_path, f"id,rate\na1,{cell}\n", elements)).value


@pytest.mark.parametrize(
    ("cell", "units", "nanos"), [("1980", 1980, 0), ("12.50", 12, 500_000_000), ("0.9999999999", 1, 0)]
)
def test_money_is_exact(tmp_path: Path, cell: str, units: int, nanos: int) -> None:
    """$money splits a decimal price into units and nanos without passing through a float."""
    elements = {"benefit": {"fixed_price": {"$money": "{price}", "currency_code": "{currency}"}}}
    price = only(run(tmp_path, f"id,price,currency\na1,{cell},EUR\n", elements)).benefit.fixed_price
    assert ("EUR", units, nanos) == (price.currency_code, price.units, price.nanos)


@pytest.mark.parametrize(
    ("cell", "sign", "number"),
    [
        ("1234,5", ",", 1234.5),
        ("1.234,50", ",", 1234.5),
        ("-1.234.567,25", ",", -1_234_567.25),
        ("1.234", ",", 1234),
        ("12 345,5", ",", 12_345.5),
        ("12\u00a0345,5", ",", 12_345.5),
        ("12\u202f345,5", ",", 12_345.5),
        (",5", ",", 0.5),
        ("1,5e3", ",", 1500),
        ("12.50", ".", 12.5),
        ("1,234.50", ".", 1234.5),
        ("1'234'567.5", ".", 1_234_567.5),
        ("1,234", ".", 1234),
    ],
)
def test_numbers_are_read_with_their_decimal_sign_and_groups(cell: str, sign: str, number: float) -> None:
    """Digits before the decimal sign may be in groups of three."""
    assert number == parsed(cell, sign)


def test_numbers_and_sums_take_a_decimal_sign(tmp_path: Path) -> None:
    """`decimal` of $number and $money names the sign before decimals."""
    elements = {
        "value": {"$number": "{n}", "decimal": ",", "times": 0.0001},
        "benefit": {"fixed_price": {"$money": "{n}", "decimal": ",", "currency_code": "EUR"}},
    }
    offer = only(run(tmp_path, 'id,n\na1,"1.234,50"\n', elements))
    assert (0.12345, 1234, 500_000_000) == (
        offer.value,
        offer.benefit.fixed_price.units,
        offer.benefit.fixed_price.nanos,
    )


@pytest.mark.parametrize(
    ("cell", "sign"),
    [
        *((cell, ",") for cell in ("1.5", "0.001", "1.2345", "1.234 567", "1234.567", "1.234,5.6", "1,2,3", "free")),
        *((cell, ".") for cell in ("1,5", "12,34", "1.234.567", "1,234,56.7", "1..5")),
    ],
)
def test_a_number_with_another_decimal_sign_is_never_guessed(tmp_path: Path, cell: str, sign: str) -> None:
    """Groups that are not of three digits, of two separators, or after the sign reject the row."""
    table = f'id,n\na1,"{cell}"\n'
    (reject,) = run(tmp_path, table, {"value": {"$number": "{n}", "decimal": sign}}).rejects
    word = {",": "comma", ".": "point"}[sign]
    assert reject.reason == f"value: '{cell}' is not a number (digits, with a {word} before decimals)"


def test_a_decimal_comma_without_the_option_is_told_of_it(tmp_path: Path) -> None:
    """The reason says what to write in the mapping."""
    (reject,) = run(tmp_path, 'id,n\na1,"9,50"\n', {"value": "{n}"}).rejects
    assert 'use $number or $money with decimal: ","' in reject.reason


@pytest.mark.parametrize(
    ("cell", "instant"),
    [
        ("2024-06-01", "2024-06-01T00:00:00+02:00"),
        ("2024-06-01 12:00", "2024-06-01T12:00:00+02:00"),
        ("2024-06-01t12:00:00z", "2024-06-01T12:00:00+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
    ],
)
def test_time_is_read_by_rfc_3339(tmp_path: Path, cell: str, instant: str) -> None:
    """Without a format: in full, or without offset, seconds or time of day."""
    windows = [{"end_time": {"$time": "{until}", "time_zone": "Europe/Paris"}}]
    offer = only(run(tmp_path, f"id,until\na1,{cell}\n", {"availability": {"windows": windows}}))
    assert seconds(instant) == offer.availability.windows[0].end_time


@pytest.mark.parametrize(
    "cell", ["20240601", "2024-6-1", "2024-W22-6", "2024-06-01T12", "2024-06-01T12:00:00+99:99", "2024-06-01T12:15:60Z"]
)
def test_other_forms_of_a_time_reject_the_row(tmp_path: Path, cell: str) -> None:
    """Sloppy dates, weeks, impossible offsets and seconds."""
    windows = [{"end_time": {"$time": "{until}", "time_zone": "Europe/Paris"}}]
    (reject,) = run(tmp_path, f"id,until\na1,{cell}\n", {"availability": {"windows": windows}}).rejects
    assert f"'{cell}' is not a time in RFC 3339" in reject.reason


@pytest.mark.parametrize(
    ("cell", "options", "instant"),
    [
        ("31.12.2024", {"format": "%d.%m.%Y", "time_zone": "Asia/Tokyo"}, "2024-12-31T00:00:00+09:00"),
        ("2024-03-31", {"time_zone": "Europe/Paris", "plus_days": 1}, "2024-04-01T00:00:00+02:00"),
        ("2024-10-27T02:30", {"time_zone": "Europe/Paris"}, "2024-10-27T02:30:00+02:00"),
        ("2024-03-31T02:30", {"time_zone": "Europe/Paris"}, "2024-03-31T02:30:00+01:00"),
        ("2024-06-01T12:00:00-05:00", {"time_zone": "Europe/Paris"}, "2024-06-01T12:00:00-05:00"),
    ],
)
def test_time_is_read_in_its_zone(tmp_path: Path, cell: str, options: dict[str, Any], instant: str) -> None:
    """$time reads a wall clock, moves by calendar days across clock changes, and minds an offset in the cell."""
    windows = [{"end_time": {"$time": "{until}", **options}}]
    offer = only(run(tmp_path, f"id,until\na1,{cell}\n", {"availability": {"windows": windows}}))
    assert seconds(instant) == offer.availability.windows[0].end_time


def test_map_chooses_by_value(tmp_path: Path) -> None:
    """$map takes the branch of the cell's text, else the default; an empty cell makes no value."""
    benefit = {"$map": "{kind}", "values": {"pct": {"percent_off": "{n}"}}, "default": {"custom": "{kind}"}}
    result = run(tmp_path, "id,kind,n\na1,pct,20\na2,gift,\na3,,1\n", {"benefit": benefit})
    assert [Benefit(percent_off=20), Benefit(custom="gift")] == [offer.benefit for offer in result.catalog.offers]
    assert [Reject(4, "benefit: has no value but is required", ("kind", "n"))] == list(result.rejects)


def test_when_includes_by_value(tmp_path: Path) -> None:
    """$when takes `then` for a listed or not unlisted text, else `else`; an empty cell is never chosen."""
    elements = {
        "category": {"$when": "{kind}", "is": ["a", "b"], "then": "listed", "else": "other"},
        "brand": {"$when": "{kind}", "is_not": ["a"], "then": "{kind}"},
        "channels": {"$when": "{kind}", "then": ["app", "web"]},
    }
    result = run(tmp_path, "id,kind\n1,a\n2,b\n3,c\n4,\n", elements)
    chosen = [(offer.category, offer.brand, list(offer.channels)) for offer in result.catalog.offers]
    both = ["app", "web"]
    assert [("listed", "", both), ("listed", "b", both), ("other", "c", both), ("other", "", [])] == chosen


def test_first_takes_the_first_present(tmp_path: Path) -> None:
    """$first takes the first choice that has a value."""
    result = run(tmp_path, "id,a,b\n1,x,y\n2,,y\n3,,\n", {"category": {"$first": ["{a}", "{b}", "none"]}})
    assert ["x", "y", "none"] == [offer.category for offer in result.catalog.offers]


def test_split_makes_a_list(tmp_path: Path) -> None:
    """$split makes one value of each part of a cell and leaves out empty ones."""
    offer = only(run(tmp_path, "id,c\n1,app| web||\n", {"channels": {"$split": "{c}", "by": "|"}}))
    assert ["app", "web"] == list(offer.channels)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("1,1,0,1", "Mo,Tu; PH -1 day off; PH"),
        ("1,0,0,0", "Mo; PH -1 day off; PH off"),
        ("0,0,0,1", "PH"),
        ("0,0,2,0", "PH -1 day; PH off"),
        ("0,0,0,0", "off"),
        (",,,", ""),
    ],
)
def test_hours_are_built_from_flags(tmp_path: Path, cells: str, expected: str) -> None:
    """$hours writes opening hours out of flags: nothing usable is "off", no flags are no limit."""
    elements = {"redemption": {"opening_hours": {"$hours": FLAGS, "on": ["1", "2"], "off": ["0"]}}}
    head = {"catalog": {"catalog_id": "test", "country_code": "JP"}}
    assert expected == only(run(tmp_path, f"id,mo,tu,eve,ph\n1,{cells}\n", elements, **head)).redemption.opening_hours


@given(st.lists(st.booleans(), min_size=9, max_size=9))
@settings(max_examples=60, deadline=None)
def test_hours_mean_what_the_flags_say(flags: list[bool]) -> None:
    """On every day, a holiday's flag decides, else that of the day before a holiday, else the weekday's."""
    days = [date(2012, 4, 20) + timedelta(days=number) for number in range(30)]
    holidays = OpeningHours("PH", country="JP")
    built = OpeningHours(hours(list(zip((*WEEKDAYS, "PH -1 day", "PH"), flags, strict=True))), country="JP")
    for day in days:
        noon, next_noon = (datetime.combine(at, datetime.min.time()) for at in (day, day + timedelta(days=1)))
        holiday, eve = holidays.is_open(noon), holidays.is_open(next_noon)
        wanted = flags[8] if holiday else flags[7] if eve else flags[day.weekday()]
        assert wanted == built.is_open(noon), day
    assert 4 == sum(holidays.is_open(datetime.combine(day, datetime.min.time())) for day in days)


def test_open_every_day_is_said_so_that_it_is_quick_to_read() -> None:
    """All flags on are "24/7", for which the opening-hours library need not search the calendar."""
    assert "24/7" == hours([(name, True) for name in (*WEEKDAYS, "PH -1 day", "PH")])


WINDOW = {"start_time": {"$time": "{from}", "time_zone": "UTC"}, "end_time": {"$time": "{to}", "time_zone": "UTC"}}
PRICE = {"fixed_price": {"$money": "{price}", "currency_code": "EUR"}}


@pytest.mark.parametrize(
    ("table", "elements", "reason", "columns"),
    [
        ("id,n\n1,x\n", {"value": "{n}"}, "value: 'x' is not a number", ("n",)),
        ("id,n\n1,1e99\n", {"benefit": {"bundle": {"quantity": "{n}", "paid_quantity": 1}}}, "too large", ("n",)),
        ("id,n\n1,2.5\n", {"benefit": {"bundle": {"quantity": "{n}", "paid_quantity": 1}}}, "not a whole", ("n",)),
        ("id,n\n1,1.5\n", {"value": "{n}"}, "value: 1.5 is not over 0 and at most 1", ("n",)),
        ("id,n\n1,perhaps\n", {"fallback": "{n}"}, "fallback: 'perhaps' is not one of true, false", ("n",)),
        ("id,n\n1,b\n", {"category": {"$map": "{n}", "values": {"a": "A"}}}, "'b' is not one of a", ("n",)),
        ("id,price\n1,\n", {"benefit": PRICE}, "benefit: has no value but is required", ("price",)),
        ("id,price\n1,1 000\n", {"benefit": PRICE}, "benefit.fixed_price: '1 000' is not a number", ("price",)),
        ("id,price\n1,1e30\n", {"benefit": PRICE}, "more money than can be written", ("price",)),
        ("id,price\n1,-5\n", {"benefit": PRICE}, "benefit.fixed_price: is less than 0", ("price",)),
        (
            "id,from,to\n1,2024-02-30,2024-03-01\n",
            {"availability": {"windows": [WINDOW]}},
            "availability.windows[0].start_time: '2024-02-30' is not a time",
            ("from",),
        ),
        (
            "id,from,to\n1,2024-03-02,2024-03-02\n",
            {"availability": {"windows": [WINDOW]}},
            "availability.windows[0].end_time: is not after start_time; write a later end",
            ("to",),
        ),
        (
            "id,to\n1,2024-03-02\n",
            {"redemption": {"window": {"end_time": "{to}"}}},
            "redemption.window.end_time: '2024-03-02' has no UTC offset",
            ("to",),
        ),
        (
            "id,to\n1,9999-12-31\n",
            {"redemption": {"window": {"end_time": {"$time": "{to}", "time_zone": "UTC", "plus_days": 1}}}},
            "'9999-12-31' is not a time",
            ("to",),
        ),
        (
            "id,a,b\n1,5,x\n",
            {"benefit": {"percent_off": "{a}", "custom": "{b}"}},
            "benefit: percent_off and custom both have a value",
            ("a", "b"),
        ),
        (
            "id,lat\n1,\n",
            {"target": {"circles": [{"center": {"latitude": "{lat}", "longitude": 2}, "radius_m": 5}]}},
            "target.circles[0].center.latitude: has no value but is required",
            ("lat",),
        ),
        (
            "id,mo,tu,eve,ph\n1,1,,0,1\n",
            {"redemption": {"opening_hours": {"$hours": FLAGS, "on": ["1"], "off": ["0"]}}},
            "some flags have a value and others have none",
            ("eve", "mo", "ph", "tu"),
        ),
        (
            "id,mo,tu,eve,ph\n1,1,7,0,1\n",
            {"redemption": {"opening_hours": {"$hours": FLAGS, "on": ["1"], "off": ["0"]}}},
            "'7' is neither on nor off",
            ("eve", "mo", "ph", "tu"),
        ),
        (
            "id,h\n1,Mo 25:99\n",
            {"availability": {"opening_hours": "{h}"}},
            "availability.opening_hours: not in the opening_hours grammar",
            ("h",),
        ),
        (
            "id,price,c\n1,5,\n",
            {"benefit": {"fixed_price": {"$money": "{price}", "currency_code": "{c}"}}},
            "benefit.fixed_price: the sum has no currency_code",
            ("c", "price"),
        ),
        (
            "id,n\n1,-\n",
            {"offer_id": "{n}", "title": "{n}", "benefit": {"custom": "{n}"}, "target": {"everywhere": "{n}"}},
            "the row gives no value to any element of the offer",
            (),
        ),
        ("id,n\n,1\n", {}, "offer_id: has no value but is required", ("id",)),
        ("id,n\nspaced out,1\n", {}, "offer_id: 'spaced out' is not an id", ("id",)),
        ("id,n\n1\n", {}, "the row has 1 cells, but the header has 2", ()),
        ("id,n\n1,2,3\n", {}, "the row has 3 cells, but the header has 2", ()),
        ('id,n\n1,"a"b\n', {}, "the row is not CSV", ()),
        (b"id,n\n1,\xff\n", {}, "the row is not text in the encoding utf-8-sig", ()),
        ("id,p\n1,nowhere\n", {"placement_ids": ["{p}"]}, "placement_ids[0]: ", ("p",)),
    ],
)
def test_faulty_row_is_a_reject(
    tmp_path: Path, table: str | bytes, elements: dict[str, Any], reason: str, columns: tuple[str, ...]
) -> None:
    """A row that cannot be an offer is listed with its line, the reason and the columns at fault."""
    head = {"catalog": {"catalog_id": "test", "country_code": "JP"}, "csv": {"null_values": ["-"]}}
    (reject,) = run(tmp_path, table, elements, **head).rejects
    assert (2, columns) == (reject.row, reject.fields)
    assert reason in reject.reason


def test_reject_names_all_faults_of_a_row(tmp_path: Path) -> None:
    """One reject holds everything that is wrong with a row."""
    (reject,) = run(tmp_path, "id,n\n1,x\n", {"value": "{n}", "lever": "{n}"}).rejects
    assert Reject(2, "; ".join(f"{name}: {NOT_A_NUMBER}" for name in ("value", "lever")), ("n",)) == reject


NOT_A_NUMBER = "'x' is not a number (digits, with a point before decimals)"


def test_rejects_name_the_line_in_the_file(tmp_path: Path) -> None:
    """Cells of several lines, blank lines and all line ends count as they do in an editor."""
    table = 'id,n\r\n1,"a\nb\r\nc"\r\n\r\n2,"""q"""\n3,x,\n4,y\n4,z\n'
    result = run(tmp_path, table, {"creative": {"body": "{n}"}})
    assert [(7, "the row has 3 cells, but the header has 2"), (9, "offer_id: '4' is already the id of line 8")] == [
        (reject.row, reject.reason) for reject in result.rejects
    ]
    assert ["a\nb\r\nc", '"q"', "y"] == [offer.creative.body for offer in result.catalog.offers]


def test_rows_of_separators_alone_are_empty(tmp_path: Path) -> None:
    """As spreadsheets write empty rows: before the header, between rows and at the end, with any number of cells."""
    table = ';;\r\nid;n;m\r\n;;\r\n1;a;\r\n ; ;\t\r\n;;;;;;\r\n;\r\n"";;\r\n2;b;\r\n3\r\n;;\r\n'
    result = run(tmp_path, table, {}, csv={"delimiter": ";"})
    assert (["1", "2"], 3) == ([offer.offer_id for offer in result.catalog.offers], result.rows)
    assert [(10, "the row has 1 cells, but the header has 3")] == [(one.row, one.reason) for one in result.rejects]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16"])
def test_a_line_with_the_separator_names_the_delimiter(tmp_path: Path, line: str, encoding: str) -> None:
    """The line of spreadsheets counts as a line, and holds against the mapping."""
    table = f"{line}\r\nid;n\r\n1;a,b\r\n2\r\n".encode(encoding)
    result = run(tmp_path, table, {"title": "{n}"}, csv={"encoding": encoding, "delimiter": "|"})
    assert ["a,b"] == [offer.title for offer in result.catalog.offers]
    assert [4] == [reject.row for reject in result.rejects]


def test_a_line_with_the_separator_stands_before_a_table_without_header(tmp_path: Path) -> None:
    """It is no row; neither is any other first line left out."""
    options = {"columns": ["id", "n"]}
    assert "a" == only(run(tmp_path, "sep=\t\n1\ta\n", {"title": "{n}"}, csv=options)).title
    assert "sep=" == only(run(tmp_path, "sep=,a\n", {"offer_id": "{n}", "title": "{id}"}, csv=options)).title


@pytest.mark.parametrize(
    ("table", "encoding", "place"),
    [
        (b"id,n\n1,a\n2,caf\xe9\n", "utf-8-sig", "encoding utf-8-sig: byte 0xE9 on line 3; "),
        (b'id,n\n1,"a\r\nb\xff"\n', "utf-8-sig", "encoding utf-8-sig: byte 0xFF on line 3; "),
        (b'id,n\n"1\n","\n\xe9"\n', "ascii", "encoding ascii: byte 0xE9 on line 4; "),
    ],
)
def test_a_byte_outside_the_encoding_is_named(tmp_path: Path, table: bytes, encoding: str, place: str) -> None:
    """The reject says which encoding was tried, which byte is outside, on which line, and how to give another."""
    (reject,) = run(tmp_path, table, {"title": "t"}, csv={"encoding": encoding}).rejects
    assert f"{place}name the file's as 'encoding' of csv in the mapping, such as cp1252" in reject.reason


@pytest.mark.parametrize(
    ("table", "encoding", "line", "words"),
    [
        ("id,n\n1,a\n".encode("utf-16"), "utf-8-sig", 1, ("utf-8-sig: byte 0xFF on line 1", "such as utf-16")),
        ("id,n\n1,a\n2,b\n".encode("utf-16-le") + b"\x00\xdc\n\x00", "utf-16-le", 4, ("utf-16-le: byte 0x00",)),
        (b"id,n\n1,a\n", "utf-16", 1, ("utf-16", "such as cp1252")),
        (("id,n\n" + "1,a\n" * 9_000).encode("utf-16-be") + b"\xdc\x00", "utf-16-be", 9_002, ("utf-16-be: byte 0xDC",)),
    ],
)
def test_a_table_that_cannot_be_decoded_names_the_first_byte(
    tmp_path: Path, table: bytes, encoding: str, line: int, words: tuple[str, ...]
) -> None:
    """The whole file is refused with the line of the byte, however far ahead it was read."""
    path = tmp_path / "table.csv"
    path.write_bytes(table)
    (problem, *_) = problems(write_mapping(tmp_path, OFFER, csv={"encoding": encoding}), path)
    assert line == problem.line
    assert all(word in f"{problem.reason}; {problem.fix}" for word in words)


def test_quote_that_never_closes_loses_no_row_in_silence(tmp_path: Path) -> None:
    """The lines swallowed by an open quote are named."""
    (reject,) = run(tmp_path, 'id,n\n1,"a\n2,b\n3,c\n', {}).rejects
    assert 2 == reject.row
    assert "(lines 2 to 4 are lost)" in reject.reason


def test_encoding_and_delimiter_are_options(tmp_path: Path) -> None:
    """A file in another encoding and with another delimiter is read by the options of its mapping."""
    table = "id;何\na1;寿司\n".encode("cp932")
    assert "寿司" == only(run(tmp_path, table, {"title": "{何}"}, csv={"encoding": "cp932", "delimiter": ";"})).title


def test_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    """A table saved with a byte order mark, as spreadsheets do, is read without further options."""
    assert "a1" == only(run(tmp_path, codecs.BOM_UTF8 + b"id\na1\n", {})).offer_id


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    """Progress counts bytes, never falls and ends at all of them."""
    table = tmp_path / "table.csv"
    table.write_text("id\n" + "".join(f"offer-{number}\n" for number in range(30_000)), encoding="utf-8")
    seen: list[tuple[int, int]] = []
    import_table(write_mapping(tmp_path, OFFER), table, progress=lambda done, size: seen.append((done, size)))
    assert sorted(seen) == seen
    assert 3 <= len({done for done, _ in seen})
    assert (table.stat().st_size, table.stat().st_size) == seen[-1]


def test_catalog_elements_are_kept(tmp_path: Path) -> None:
    """Placements and strategies of the mapping are in the catalogue, and offers may name them."""
    catalog = {
        "catalog_id": "test",
        "placements": [{"placement_id": "home", "max_offers": 5, "ranking_strategy_id": "near"}],
        "ranking_strategies": [{"ranking_strategy_id": "near", "nearness": {"shape": "SHAPE_EXP", "scale": 900}}],
    }
    result = run(tmp_path, "id\n1\n", {"placement_ids": ["home"]}, catalog=catalog)
    assert ["home"] == list(only(result).placement_ids)
    assert (5, 900) == (result.catalog.placements[0].max_offers, result.catalog.ranking_strategies[0].nearness.scale)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"i\xe9d\n1\n", b'"id\n'])
def test_file_without_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file whose first row cannot be read is a problem of the file, on line 1."""
    (tmp_path / "table.csv").write_bytes(content)
    (problem,) = problems(write_mapping(tmp_path, OFFER), tmp_path / "table.csv")
    assert (str(tmp_path / "table.csv"), 1) == (problem.file, problem.line)


NASTY = st.text(st.sampled_from('ab,1"\n\r\0;{}\ufeff\u2028é 😀')).map(str.encode) | st.binary(max_size=60)


@given(rows=st.lists(NASTY, max_size=6), encoding=st.sampled_from(["utf-8-sig", "utf-16", "cp932", "latin-1", "ascii"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_breaks_the_import(tmp_path: Path, rows: list[bytes], encoding: str) -> None:
    """Whatever bytes the file holds, each row is an offer or a reject, or the file is refused with a CatalogError."""
    content = "id,n\n".encode(encoding) + b"\n".join(rows)
    elements = {"title": "{n}", "value": {"$first": [{"$when": "{n}", "is": ["1"], "then": "{n}"}, "0.5"]}}
    try:
        result = run(tmp_path, content, elements, csv={"encoding": encoding})
    except CatalogError as error:
        assert all(problem.line is not None for problem in error.problems)  # noqa: PT017 - either end is fine
    else:
        assert len(list(result.catalog.offers)) == len({offer.offer_id for offer in result.catalog.offers})
