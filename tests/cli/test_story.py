"""The story in the guide to people is what `offers demo story` tells, and what it tells is so."""

from offers.cli.story import tell
from tests.paths import ROOT


def test_the_story_goes_as_the_guide_says() -> None:
    """A visitor, a basket left behind, a sign-in, a cap, a dismissal, a redemption and an erasure, line by line."""
    told: list[str] = []

    tell(told.append)

    guide = (ROOT / "docs" / "guides" / "people-and-limits.md").read_text("utf-8")
    start = guide.index("$ offers demo story\n") + len("$ offers demo story\n")
    shown = guide[start : guide.index("```", start)].split()
    assert shown == "\n".join(told).split()
