"""The locks pin everything once, with hashes, and agree with each other and with pyproject.toml."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install.locks import pinned, version, versions_here
from tests.paths import ROOT

RUN, DEVELOP = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
LOCKS = [RUN, DEVELOP, ROOT / "protos" / "requirements.lock"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_package_has_a_version_and_hashes(lock: str) -> None:
    """Each line pins one version with == and at least one hash."""
    for requirement, hashes in pinned(ROOT / lock):
        assert version(requirement)
        assert hashes, requirement


def test_the_run_time_lock_is_part_of_the_development_lock() -> None:
    """Both locks fit into one environment: same versions, markers and hashes."""
    develop = {str(requirement): hashes for requirement, hashes in pinned(DEVELOP) if requirement.marker is None}
    here = versions_here(DEVELOP)

    for requirement, hashes in pinned(RUN):
        if requirement.marker is None:
            assert develop[str(requirement)] == hashes
    assert versions_here(RUN).items() <= here.items()


def test_the_locks_have_what_the_project_declares() -> None:
    """Dependencies and the build back end are in both locks; every extra is in the development lock."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    base = [*document["project"]["dependencies"], *document["build-system"]["requires"]]
    extras = [line for lines in document["project"]["optional-dependencies"].values() for line in lines]

    for lock, declared in ((RUN, base), (DEVELOP, base + extras)):
        locked = versions_here(lock)
        for requirement in map(Requirement, declared):
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), (lock.name, requirement)


def test_the_run_time_lock_has_no_test_tools() -> None:
    """`make run` installs neither test nor lint tools."""
    assert not {"pytest", "hypothesis", "mypy", "ruff", "mkdocs", "scipy"} & versions_here(RUN).keys()
