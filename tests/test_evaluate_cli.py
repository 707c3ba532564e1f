"""`offers evaluate`: what a strategy would have earned, held against a world in which that is known."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from offers.cli import app
from offers.errors import CatalogError, OffersError
from tests.whatif import worlds

DECISIONS = 2_000


def run(data: Path, *options: str, strategy: str = "by-weather") -> Result:
    """Evaluate a strategy of the catalogue beside the data folder."""
    named = ("--catalog", str(data.parent / "catalog.yaml"), "--strategy", strategy, "--data-dir", str(data))
    return CliRunner().invoke(app, ["evaluate", *named, *options])


def told(data: Path, *options: str, strategy: str = "by-weather") -> dict[str, Any]:
    """The same, as a program reads it."""
    result = run(data, "--json", *options, strategy=strategy)
    assert (0, None) == (result.exit_code, result.exception)
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of a policy that explores with known probabilities."""
    return worlds.made(tmp_path_factory.mktemp("explored"), *worlds.happened(DECISIONS))


def test_a_strategy_s_value_is_within_its_intervals(explored: Path) -> None:
    """What a strategy earns in a known world is in the intervals of IPW, SNIPS and DR; what was earned is not its value."""
    found = told(explored)

    assert (DECISIONS, 2 * DECISIONS, 2 * DECISIONS, {}) == tuple(
        found[name] for name in ("decisions", "shown", "explored", "left_out")
    )
    for name in ("ipw", "snips", "dr"):
        one = found["evaluation"][name]
        assert one["low"] < worlds.WET_TRUTH < one["high"]
        assert one["high"] - one["low"] < 0.15
    assert found["earned"]["high"] < worlds.WET_TRUTH - 0.05
    assert 2.0 == found["offers"]
    assert found["unsupported"] < 0.05
    assert found["evaluation"]["effective_rows"] < 2 * DECISIONS
    assert [] == found["warnings"]
