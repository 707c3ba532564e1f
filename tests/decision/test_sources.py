"""The cache of compiled loops is named by all sources that go into them."""

import ast
import re
from pathlib import Path

import offers
from offers.compiled.cache import SOURCES

PACKAGE = Path(offers.__file__).parent
LOOP = re.compile(r"\bnjit\b|^@(apart|inner|inlined)$", re.MULTILINE)
PLAIN = {"errors.py"}
"""What has no numbers in it that a loop could have."""


def imported(file: Path) -> set[str]:
    """Return the files of the package from which a file imports names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("offers."):
            module = PACKAGE.parent / str(node.module).replace(".", "/")
            inside = [module / one.name for one in node.names] if module.is_dir() else [module]
            names = [one if one.with_suffix(".py").is_file() or one.is_dir() else module / "__init__" for one in inside]
            found |= {str(one.with_suffix(".py").relative_to(PACKAGE)) for one in names}
    return found


def test_what_loops_are_made_of_names_their_cache() -> None:
    """A change of any file with loops, or of one they import names from, gives another cache."""
    named = {str(file.relative_to(PACKAGE)) for source in SOURCES for file in PACKAGE.glob(source)}
    with_loops = {file for file in PACKAGE.rglob("*.py") if LOOP.search(file.read_text("utf-8"))}
    needed = {str(file.relative_to(PACKAGE)) for file in with_loops}.union(*map(imported, with_loops))
    assert set() == needed - named - PLAIN
