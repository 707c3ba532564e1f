"""The story in the README is what `offers demo story` tells, and what it tells is so."""

from offers.cli.story import tell
from tests.paths import ROOT


def test_the_story_goes_as_the_readme_says() -> None:
    """A visitor, a basket left behind, a sign-in, a cap, a dismissal, a redemption and an erasure, line by line."""
    told: list[str] = []

    tell(told.append)

    readme = (ROOT / "README.md").read_text("utf-8")
    start = readme.index("$ offers demo story\n") + len("$ offers demo story\n")
    shown = readme[start : readme.index("```", start)].split()
    assert shown == "\n".join(told).split()
