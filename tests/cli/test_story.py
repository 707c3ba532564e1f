"""The guide to people shows the output of `offers demo story`."""

from offers.cli.story import tell
from tests.docs.pages import DOCS


def test_the_story_goes_as_the_guide_says() -> None:
    """The story is told line by line: a basket, a sign-in, a cap, a dismissal, a redemption and an erasure."""
    told: list[str] = []

    tell(told.append)

    guide = (DOCS / "guides" / "people-and-limits.md").read_text("utf-8")
    start = guide.index("$ offers demo story\n") + len("$ offers demo story\n")
    shown = guide[start : guide.index("```", start)].split()
    assert shown == "\n".join(told).split()
