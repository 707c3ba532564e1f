"""The tables of the guide to faults are whole: each promise names its test, each test has its promise."""

import re

from tests.paths import ROOT

GUIDE = (ROOT / "docs" / "guides" / "faults.md").read_text("utf-8")
TABLES = GUIDE[: GUIDE.index("## Memory")]
HEAD = "| fault | promised | seen |"
ROWS = [line.strip("| ").split(" | ") for line in TABLES.splitlines() if line.startswith("| ") and line != HEAD]
TEST = re.compile(r"`(tests/[\w/]+\.py)`")
SENTENCES = re.compile(r"[.:;](?: |$)")
MOST = 3
"""Sentences of a promise. Rows that need more are two faults."""


def test_every_promise_names_its_test() -> None:
    """The last of three cells names files that exist."""
    assert ROWS
    assert [] == [row[0] for row in ROWS if len(row) != 3 or not TEST.search(row[2])]
    assert [] == [path for row in ROWS for path in TEST.findall(row[2]) if not (ROOT / path).is_file()]


def test_every_test_of_faults_has_its_promise() -> None:
    """The tables name all files of tests beside this one."""
    own = {f"tests/faults/{path.name}" for path in (ROOT / "tests" / "faults").glob("test_*.py")}
    assert own - {"tests/faults/test_table.py"} <= set(TEST.findall(TABLES))


def test_promises_are_short() -> None:
    """A promise is read at a glance."""
    assert [] == [row[0] for row in ROWS if len(SENTENCES.findall(f"{row[1]}.")) > MOST]
