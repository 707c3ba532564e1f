"""Every block of README and docs does what the page says, or says why it is not run; every link leads somewhere."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from offers.catalogue.check import check
from offers.testing import Served, serving
from tests.docs import worlds
from tests.docs.pages import DOCS, KINDS, PAGES, RUN, Block, blocks_of, links_of
from tests.docs.running import TARGET, Reader, agrees, patient, steps
from tests.paths import ROOT

SMALLEST: dict[str, Any] = {
    "catalog_id": "part",
    "time_zone": "Europe/Paris",
    "offers": [{"offer_id": "any", "title": "Any", "benefit": {"percent_off": 10}, "target": {"everywhere": True}}],
}
"""The catalogue around a part that names none."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """Serve the demo catalogue to all pages that start no server of their own."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(data_dir=folder) as served:
        yield served, folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    """A block is of a kind that is known, of a language that is run, or names its reason."""
    unmarked = [
        f"{block.place}: a block of '{block.language}' needs a comment before it: see tests/docs/pages.py"
        for block in blocks_of(page)
        if not (block.kind in KINDS and (block.value or block.kind == "numbers vary"))
        and not (block.language in RUN and not block.kind)
    ]

    assert [] == unmarked


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks_of(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_blocks_of_a_page_do_what_it_says(
    page: Path, tmp_path: Path, shared: tuple[Served, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who types all blocks of a page into an empty folder, in their order, sees what the page shows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "offers").symlink_to(ROOT / "offers")  # pages name files of the checkout
    reader = Reader(tmp_path, *shared)
    try:
        for block in blocks_of(page):
            done(block, reader)
    finally:
        reader.close()


def done(block: Block, reader: Reader) -> None:
    """Do what a reader does with a block, and hold the outcome against the page."""
    path = reader.folder / block.value
    match block.kind:
        case "not run":
            return
        case "file":
            path.write_text(block.text, "utf-8")
            document = yaml.safe_load(block.text) if path.suffix == ".yaml" else None
            if isinstance(document, dict) and "offers" in document and not path.stem.startswith("broken"):
                assert check(path).offer_count, block.place
        case "part of":
            path.write_text(yaml.safe_dump(joined(yaml.safe_load(path.read_text()), block.text)), "utf-8")
            check(path)
        case "catalogue":
            path.write_text(yaml.safe_dump(joined(SMALLEST, block.text)), "utf-8")
            check(path)
        case _:
            if block.kind == "world":
                getattr(worlds, block.value)(reader.folder)
                reader.data = reader.folder / "data"
            if block.language == "python":
                python(block, reader)
                return
            for command, said in steps(block):
                printed = reader.run(command, int(block.value) if block.kind == "fails" else 0)
                vary = block.kind in {"numbers vary", "world"}
                assert agrees(said, printed, numbers_vary=vary), f"{block.place}: {command}\n{printed}"


def joined(document: dict[str, Any], part: str) -> dict[str, Any]:
    """Join a part to a catalogue: lists are added to, other values replaced."""
    made = dict(document)
    for key, value in yaml.safe_load(part).items():
        made[key] = made.get(key, []) + value if isinstance(value, list) else value
    return made


def python(block: Block, reader: Reader) -> None:
    """Run a program as it stands, against the reader's server."""
    code = compile(patient(block.text).replace(TARGET, reader.served.target), block.place, "exec")
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # noqa: S102 - our own program
        for name, value in list(names.items()):
            if name.startswith("test_") and callable(value):
                value()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    """Relative links lead to a file of the checkout, or to a page that is generated."""
    names = ("index.md", "settings.md", "commands.md", "reason-codes.md", "limits.md")
    generated = {DOCS / "reference" / name for name in names}
    generated |= {
        DOCS / "reference" / "api" / f"{path.stem}.md" for path in (ROOT / "protos").glob("offers/v1/*.proto")
    }
    broken = [
        target
        for target in links_of(page)
        if (path := Path(os.path.normpath(page.parent / target.partition("#")[0]))) not in generated
        and target.partition("#")[0]
        and not path.exists()
    ]

    assert [] == broken


@cache
def places() -> frozenset[str]:
    """List the files and folders of the checkout, each between slashes."""
    folders = ("offers", "protos", "tests", "benchmarks", "docs")
    below = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return frozenset(f"/{path.relative_to(ROOT)}/" for path in [*below, *ROOT.iterdir()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    """A page that names `admit.py`, `kernels/admit.py` or `decision/kernels/` means something of the checkout."""
    if page.name == "CHANGELOG.md" or page.parent.name == "decisions":  # these tell of files as they were
        return
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    named = re.findall(r"`((?:\w+/)*\w+\.(?:py|proto)|(?:\w+/)+)`", prose)
    made = {"test_corner.py", "gbdt/"}

    assert [] == [
        name
        for name in named
        if name not in made and not any(place.endswith(f"/{name.rstrip('/')}/") for place in places())
    ]


@pytest.mark.parametrize("pattern", ["offers/**/*.py", "offers/**/*.yaml", "protos/offers/**/*.proto"])
def test_sources_name_pages_that_exist(pattern: str) -> None:
    """A comment or a help text that sends a reader to a page of docs/ names the page where it is."""
    named = {
        (str(path.relative_to(ROOT)), page)
        for path in ROOT.glob(pattern)
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text("utf-8"))
    }

    assert [] == sorted(pair for pair in named if not (ROOT / pair[1]).exists())
