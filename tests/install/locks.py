"""The packages that a lock pins."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pinned(lock: Path) -> list[tuple[Requirement, frozenset[str]]]:
    """Return each requirement of a lock with its hashes."""
    text = lock.read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [
        (Requirement(line.split("--hash")[0]), frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line)))
        for line in lines
    ]


def version(requirement: Requirement) -> str:
    """Return the version that a requirement pins. Raises ValueError where it does not pin exactly one."""
    (only,) = requirement.specifier
    if only.operator != "==":
        message = f"{requirement} does not pin a version: regenerate the locks with make lock"
        raise ValueError(message)
    return only.version


def versions_here(lock: Path) -> dict[str, str]:
    """Return the versions by normalised name that a lock pins for this interpreter and machine."""
    return {
        canonicalize_name(requirement.name): version(requirement)
        for requirement, _ in pinned(lock)
        if requirement.marker is None or requirement.marker.evaluate()
    }
