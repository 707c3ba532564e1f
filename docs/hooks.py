"""Hooks of MkDocs: add the reference and the decision records, check links into the checkout, forbid foreign files."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT))

from docs.reference import pages  # noqa: E402 - found by the path above

log = logging.getLogger("mkdocs.plugins.offers")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")

_FOREIGN = re.compile(r'<(?:script|img|iframe)[^>]+src="https?://|<link[^>]+href="https?://')


def on_config(config: Any) -> Any:  # noqa: ANN401 - MkDocs has no types for its hooks
    """Complete the navigation: every decision record, every page of the API."""
    records = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    protos = sorted(path.stem for path in (ROOT / "protos" / "offers" / "v1").glob("*.proto"))
    for section in config.nav:
        if "Decision records" in section:
            section["Decision records"] += [f"decisions/{name}" for name in records]
        if "Reference" in section:
            api = {"API": [{f"{name}.proto": f"reference/api/{name}.md"} for name in protos]}
            section["Reference"].append(api)
    return config


def on_files(files: Any, config: Any) -> Any:  # noqa: ANN401 - as above
    """Add the reference, which is generated here and never written to disk."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401 - as above
    """Show links to files of the checkout as text, since the site does not have them. Warns of missing files."""
    folder = (DOCS / page.file.src_uri).parent

    def shown(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (folder / target).resolve()
        if path.is_relative_to(DOCS):
            return match[0]
        if not path.exists():
            log.warning("%s links to %s, which is not in the checkout", page.file.src_uri, target)
        name = f"`{path.relative_to(ROOT)}`"
        return text if text.strip("`") == name.strip("`") else f"{text} ({name})"

    return _LINK.sub(shown, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:  # noqa: ANN401 - as above
    """Warn of a page that would load something from another host: the site works offline, and tells nobody."""
    if found := _FOREIGN.search(output):
        log.warning("%s loads a file from another host: %s", page.file.src_uri, found[0])
    return output
