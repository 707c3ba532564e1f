"""Fixtures that run the command line in this process, and a server for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offers.cli import main
from offers.testing import Served, serving
from tests.cli.running import CATALOGUE, Outcome, Run


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("OFFERS_CONFIG", raising=False)

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["offers", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Outcome(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve CATALOGUE."""
    source = tmp_path_factory.mktemp("catalogue") / "catalog.yaml"
    source.write_text(CATALOGUE, "utf-8")
    with serving(source) as running:
        yield running


@pytest.fixture
def ask(offers: Run, served: Served) -> Run:
    """Run `offers query` against the server."""
    return lambda *arguments: offers("query", "--target", served.target, *arguments)
