"""Find the venues that selectors select by their labels."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import cached_property

from offers.catalogue.rules.places import values_of
from offers.v1.offer_pb2 import VenueSelector
from offers.v1.venue_pb2 import Venue


class Selection:
    """An index of venues by label. It finds the venues for which `rules.places.selects` is true, without a scan."""

    def __init__(self, venues: Iterable[Venue]) -> None:
        self._venues = venues

    @cached_property
    def labels(self) -> dict[str, dict[str, set[int]]]:
        """Numbers of the venues that have a value, by key and value."""
        labels: dict[str, dict[str, set[int]]] = {}
        for number, venue in enumerate(self._venues):
            for key, label in venue.labels.items():
                numbers = labels.setdefault(key, {})
                for value in values_of(label):
                    numbers.setdefault(value, set()).add(number)
        return labels

    def find(self, selector: VenueSelector) -> AbstractSet[int]:
        """Return the numbers of the venues that a selector finds; the selector must be sound (`is_sound`)."""
        groups: list[list[set[int]]] = []
        for key, label in selector.labels.items():
            numbers = self.labels.get(key, {})
            groups.append([numbers[value] for value in values_of(label) if value in numbers])
        fewest, *others = sorted(groups, key=lambda group: sum(map(len, group)))
        found: AbstractSet[int] = fewest[0] if len(fewest) == 1 else set().union(*fewest)
        for group in others:
            found = set().union(*(found & numbers for numbers in group))
        return found


def key_of(selector: VenueSelector) -> bytes:
    """Return a key that equal selectors share."""
    return selector.SerializeToString(deterministic=True)


def is_sound(selector: VenueSelector) -> bool:
    """Return whether a selector has a label, and each label a value: otherwise it can find no venue."""
    return bool(selector.labels) and all(map(values_of, selector.labels.values()))
