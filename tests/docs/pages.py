"""The Markdown pages of the checkout and the fenced blocks in them.

A comment on the line before a block says what the block is:

    <!-- file: NAME -->          save it as NAME in the page's folder, for the blocks after it;
                                 a catalogue must be good unless its name begins with "broken"
    <!-- part of: NAME -->       a part of the catalogue NAME saved before; the whole must pass `offers validate`
    <!-- catalogue: NAME -->     a part of a catalogue; with the smallest one around it, it must pass `offers validate`
    <!-- world: NAME -->         prepare the folder by the function NAME of tests/docs/worlds.py, then run it
    <!-- numbers vary -->        run it; in what it prints, numbers may differ
    <!-- fails: STATUS -->       run it; a command of ours ends with this exit status
    <!-- not run: REASON -->     leave it alone

Without a comment, blocks of the languages sh, console and python are run, and no others are allowed.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tests.paths import ROOT

DOCS = ROOT / "docs"
ON_TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in ON_TOP), *sorted(DOCS.rglob("*.md"))]
RUN = ("sh", "console", "python")
KINDS = ("file", "part of", "catalogue", "world", "numbers vary", "fails", "not run")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*) *$")
_COMMENT = re.compile(r"^ *<!-- (?P<kind>[a-z ]+?)(?:: (?P<value>.+?))? -->$")


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    """Of its first fence, from 1."""
    language: str
    kind: str
    """From the comment before it; "" where there is none."""
    value: str
    text: str

    @property
    def place(self) -> str:
        """Return where it is, as an editor reads it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    found: list[Block] = []
    lines = page.read_text("utf-8").split("\n")
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        comment = _COMMENT.match(lines[number - 1])
        kind, value = (comment["kind"], comment["value"] or "") if comment else ("", "")
        end = next(after for after in range(number + 1, len(lines)) if lines[after].strip() == "```")
        inside = [line.removeprefix(fence["indent"]) for line in lines[number + 1 : end]]
        text = "\n".join([*inside, ""])
        found.append(Block(page, number + 1, fence["language"], kind, value, text))
        number = end + 1
    return found


def links_of(page: Path) -> list[str]:
    """Return the targets of a page's relative links, without what is in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if "://" not in target and not target.startswith("mailto:")]
