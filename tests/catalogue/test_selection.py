"""Venues are found by their labels."""

from hypothesis import given
from hypothesis import strategies as st

from offers.catalogue.rules.places import selects
from offers.catalogue.selection import Selection, is_sound
from offers.v1.offer_pb2 import VenueSelector
from offers.v1.venue_pb2 import Venue

VALUES = st.lists(st.sampled_from(["ramen", " soba", "bar ", "a b"]), max_size=3).map(";".join)
LABELS = st.dictionaries(st.sampled_from(["cuisine", "chain", "diet"]), VALUES, max_size=3)


@given(st.lists(LABELS, max_size=8), LABELS)
def test_finds_what_each_venue_says_of_itself(venues: list[dict[str, str]], wanted: dict[str, str]) -> None:
    """All labels of a selector have to match, each by any of its values; an unsound selector is recognised."""
    selector = VenueSelector(labels=wanted)
    labelled = [Venue(labels=labels) for labels in venues]
    expected = {number for number, venue in enumerate(labelled) if selects(selector, venue)}
    if is_sound(selector):
        assert expected == Selection(labelled).find(selector)
    else:
        assert not wanted or not expected
