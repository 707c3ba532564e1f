"""Features of offers for models: keys and numbers of attributes, the item that visits refer to, and its traits."""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offers.catalogue.rules.models import OF_OFFERS
from offers.model.hashing import attribute_key, key_of, text_key
from offers.model.keys import keys_of
from offers.model.visits import TRAITS, short, trait_of
from offers.v1.offer_pb2 import Offer, Target

OFFER_PREFIX = "offer."
"""Prefix of the attributes of offers in models."""
NO_VENUE = -1


class Traits:
    """Collects the features of offers one by one, in document order."""

    def __init__(self, names: dict[str, int], venues: dict[str, int]) -> None:
        """Start with the numbers of all names, to which campaigns are added, and the numbers of venue ids."""
        self._names, self._venues = names, venues
        self._campaign, self._venue = array("q"), array("q")
        self._attributes: dict[int, dict[str, object]] = {}

    def add(self, offer: Offer) -> None:
        """Add the next offer."""
        self._campaign.append(self._names.setdefault(offer.campaign_id, len(self._names)))
        self._venue.append(_only_venue(offer.target, self._venues))
        if offer.HasField("attributes"):
            self._attributes[len(self._venue) - 1] = dict(offer.attributes.items())

    def attributes(self) -> list[str]:
        """Return the names, in models, of the attributes whose keys are in offer_key."""
        own = sorted({name for values in self._attributes.values() for name in values})
        return [OFFER_PREFIX + name for name in (*OF_OFFERS, *own)]

    def columns(
        self, catalog_id: str, ids: Sequence[str], offer: dict[str, "array[Any]"], order: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the arrays, given the ids and columns of offers in document order, and the order of the layout."""
        attributes = self.attributes()
        keys = np.zeros((len(ids), len(attributes)), np.uint64)
        numbers = np.full((len(ids), len(attributes)), np.nan)
        keys[:, 0] = _keys_of_texts(attributes[0], ids)
        category, brand = np.frombuffer(offer["category"], np.int64), np.frombuffer(offer["brand"], np.int64)
        named = (category, brand, np.frombuffer(self._campaign, np.int64))
        for column, values in enumerate(named, 1):
            keys[:, column] = self._by_name(key_of, attributes[column], np.uint64)[values]
        trait = np.zeros((len(ids), len(TRAITS)), np.uint16)
        trait[:, TRAITS.index("category")] = self._by_name(_short_trait, "category", np.uint16)[category]
        trait[:, TRAITS.index("brand")] = self._by_name(_short_trait, "brand", np.uint16)[brand]
        for number, own in self._attributes.items():
            for name, value in own.items():
                column = attributes.index(OFFER_PREFIX + name)
                keys[number, column] = key_of(attributes[column], value)
                if not isinstance(value, str):
                    numbers[number, column] = value
                elif name in TRAITS:
                    trait[number, TRAITS.index(name)] = _short_trait(name, value)
        venue, item = np.frombuffer(self._venue, np.int64), np.array(offer["key"], np.int64)
        at_one = np.flatnonzero(venue != NO_VENUE)
        if len(at_one):
            item[at_one] = np.array(keys_of("venue", catalog_id, self._venues), np.int64)[venue[at_one]]
        return {
            "offer_key": keys[order].ravel(),
            "offer_number": numbers[order].ravel(),
            "item": item[order],
            "trait": trait[order].ravel(),
        }

    def _by_name(self, made: Any, attribute: str, kind: type[Any]) -> NDArray[Any]:  # noqa: ANN401
        """Return `made(attribute, name)` of every name, by its number; the last element is that of NO_NAME."""
        found = np.zeros(len(self._names) + 1, kind)
        for name, number in self._names.items():
            found[number] = made(attribute, name) if name else 0
        return found


def _only_venue(target: Target, venues: dict[str, int]) -> int:
    """Return the number of the only place of a target if that is a venue, else NO_VENUE."""
    ids = target.venue_ids
    if len(ids) != 1 or target.everywhere or target.circles or target.zone_ids or target.areas:
        return NO_VENUE
    return NO_VENUE if target.venue_selectors else venues[ids[0]]


def _short_trait(kind: str, name: str) -> int:
    return int(short(trait_of(kind, name)))


def _keys_of_texts(attribute: str, texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return hashing.key_of of many texts, in one compiled loop."""
    encoded = [text.encode() for text in texts]
    first = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=first[1:])
    keys = np.empty(len(texts), np.uint64)
    _key_all(np.uint64(attribute_key(attribute)), np.frombuffer(b"".join(encoded), np.uint8), first, keys)
    return keys


@njit(cache=True, error_model="numpy")
def _key_all(attribute: int, data: NDArray[np.uint8], first: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
    for number in range(len(keys)):
        keys[number] = text_key(attribute, data, first[number], first[number + 1])
