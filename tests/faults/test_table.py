"""The table of faults in the guide to operations is whole: each promise names its test, each test has its promise."""

import re

from tests.paths import ROOT

GUIDE = (ROOT / "docs" / "guides" / "operations.md").read_text("utf-8")
SECTION = GUIDE[GUIDE.index("## Faults") : GUIDE.index("## Start")]
ROWS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][1:]
TEST = re.compile(r"`(tests/[\w/]+\.py)`")


def test_every_promise_names_its_test() -> None:
    """The last of three cells names files that exist."""
    assert [] == [row[0] for row in ROWS if len(row) != 3 or not TEST.search(row[2])]
    assert [] == [path for row in ROWS for path in TEST.findall(row[2]) if not (ROOT / path).is_file()]


def test_every_test_of_faults_has_its_promise() -> None:
    """The table names all files of tests beside this one."""
    own = {f"tests/faults/{path.name}" for path in (ROOT / "tests" / "faults").glob("test_*.py")}
    assert own - {"tests/faults/test_table.py"} <= set(TEST.findall(SECTION))
