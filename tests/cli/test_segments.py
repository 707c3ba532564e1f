"""`offers segments test`: the segments a person is in, and why they are not in others."""

import json
import sys
from pathlib import Path

import pytest

from offers.cli import main
from tests.cli.running import Run

CATALOGUE = """
catalog_id: test
segments:
- {segment_id: regulars, expression: profile.order_count >= 5 && profile.attributes.city == 'Lyon'}
- {segment_id: pushed, expression: session.entry_channel == 'push' && user.user_id != ''}
- {segment_id: typed, expression: profile.attributes.age > 17.0 || profile.attributes.vip}
offers:
- {offer_id: one, title: One, benefit: {percent_off: 20}, target: {everywhere: true}}
"""


def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
    text: str = CATALOGUE,
) -> tuple[int, str, str]:
    """Run the command over a document, and return its exit status and output."""
    (tmp_path / "catalog.yaml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["offers", "segments", "test", str(tmp_path / "catalog.yaml"), *arguments])
    monkeypatch.setenv("COLUMNS", "200")  # no line is broken
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_each_segment_is_told_with_the_terms_that_are_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Context, profile, attributes and ids are read; only false terms are listed, with the values they read."""
    (tmp_path / "context.json").write_text('{"session": {"entryChannel": "push"}}')
    (tmp_path / "profile.json").write_text('{"orderCount": "7", "attributes": {"city": "Paris", "age": 30}}')
    files = ("--context", str(tmp_path / "context.json"), "--profile", str(tmp_path / "profile.json"))
    status, out, _ = run(tmp_path, monkeypatch, capsys, "--user", "u", *files)
    assert 0 == status
    rows = {cells[1].strip(): cells[2:4] for line in out.splitlines() if len(cells := line.split("│")) > 3}
    assert "no" == rows["regulars"][0].strip()
    assert "profile.attributes.city == 'Lyon': profile.attributes.city is 'Paris'" == rows["regulars"][1].strip()
    assert ("yes", "") == tuple(cell.strip() for cell in rows["pushed"])
    assert "yes" == rows["typed"][0].strip()
    status, out, _ = run(
        tmp_path, monkeypatch, capsys, "--anonymous", "a", *files, "--attribute", "city=Lyon", "--attribute", "age=12"
    )
    rows = {cells[1].strip(): cells[2:4] for line in out.splitlines() if len(cells := line.split("│")) > 3}
    assert "yes" == rows["regulars"][0].strip()
    assert "user.user_id != '': user.user_id is ''" == rows["pushed"][1].strip()
    assert "profile.attributes.vip is not there" in rows["typed"][1]


def test_json_is_a_line_per_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line names a segment, whether the person is in it, and every term with its values."""
    status, out, _ = run(tmp_path, monkeypatch, capsys, "--json", "--attribute", "city=Lyon")
    assert 0 == status
    first, *others = map(json.loads, out.splitlines())
    assert ["pushed", "typed"] == [other["segment"] for other in others]
    terms = [
        {"text": "profile.order_count >= 5", "held": False, "error": "", "values": {"profile.order_count": "0"}},
        {
            "text": "profile.attributes.city == 'Lyon'",
            "held": True,
            "error": "",
            "values": {"profile.attributes.city": "'Lyon'"},
        },
    ]
    assert {"segment": "regulars", "in": False, "terms": terms} == first


def test_intents_are_told_beside_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The built-in intents are listed if rules name one; the visit decides which hold."""
    (tmp_path / "context.json").write_text('{"session": {"basket": {"items": [{"category": "sushi"}]}}}')
    rule = "behaviour_rules: [{rule_id: r, intent_id: buy, basket: {}, lift: 2}]"
    text = CATALOGUE + f"ranking_strategies: [{{ranking_strategy_id: s, {rule}}}]\n"
    arguments = ("--json", "--context", str(tmp_path / "context.json"))
    status, out, _ = run(tmp_path, monkeypatch, capsys, *arguments, text=text)
    assert 0 == status
    held = {one["segment"]: one["in"] for one in map(json.loads, out.splitlines()) if "/" in one["segment"]}
    names = ("reassure", "buy", "compare", "inspire")
    assert {f"intent/{name}": name in {"buy", "inspire"} for name in names} == held


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--attribute", "city"), 2, "give a name and a value"),
        (("--user", "u", "--anonymous", "a"), 2, "give one"),
        (("--context", "nowhere.json"), 2, "nowhere.json cannot be read as a Context"),
        (("--profile", "catalog.yaml"), 2, "cannot be read as a Profile"),
    ],
)
def test_what_cannot_be_asked_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    told: str,
) -> None:
    """Wrong arguments end with status 2 and a message that says what to give instead."""
    monkeypatch.chdir(tmp_path)
    got, out, err = run(tmp_path, monkeypatch, capsys, *arguments)
    assert (status, "") == (got, out)
    assert told in " ".join(err.replace("│", " ").split())


def test_a_catalogue_without_segments_or_with_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document without segments, and one with problems, end with status 1 and the reason."""
    without = CATALOGUE.split("segments:", maxsplit=1)[0] + "offers:" + CATALOGUE.split("offers:")[1]
    status, _, err = run(tmp_path, monkeypatch, capsys, text=without)
    assert 1 == status
    assert "has no segments" in err
    status, _, err = run(tmp_path, monkeypatch, capsys, text=CATALOGUE.replace("order_count", "orders"))
    assert 1 == status
    assert "undefined field 'orders' not found in struct 'offers.v1.Profile' at column 8" in err


@pytest.mark.parametrize("option", ["--context", "--profile"])
def test_numbers_that_are_not_exact_are_refused(offers: Run, tmp_path: Path, option: str) -> None:
    """Attributes of a file are 64-bit floating point, in which neighbours from 2^53 on become equal."""
    (tmp_path / "said.json").write_text('{"attributes": {"fine": 1, "id": 9007199254740993}}')
    (tmp_path / "catalog.yaml").write_text(CATALOGUE, "utf-8")
    shown = offers("segments", "test", tmp_path / "catalog.yaml", option, tmp_path / "said.json")

    assert 2 == shown.status
    assert "9007199254740993 is a number that would be changed: write it as a text" in " ".join(
        shown.err.replace("│", " ").split()
    )
