"""The README shows the output of `offers demo story`."""

from offers.cli.story import tell
from tests.paths import ROOT


def test_the_story_goes_as_the_readme_says() -> None:
    """The story is told line by line: a basket, a sign-in, a cap, a dismissal, a redemption and an erasure."""
    told: list[str] = []

    tell(told.append)

    readme = (ROOT / "README.md").read_text("utf-8")
    start = readme.index("$ offers demo story\n") + len("$ offers demo story\n")
    shown = readme[start : readme.index("```", start)].split()
    assert shown == "\n".join(told).split()
