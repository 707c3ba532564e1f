"""Turns decisions and the offers they showed into rows of a model: keys, and numbers where these are asked for."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from offers.learning.pending import SettledOffer
from offers.learning.propensity.features import DECISION, DISTANCE, OFFER_PREFIX, Examples, Features
from offers.learning.values import REQUEST_NAMES, CatalogueFacts, request_values, scalars
from offers.model.hashing import attribute_key, key_of, number_keys
from offers.v1.offer_pb2 import Offer
from offers.v1.state_pb2 import DecisionRecord

_OFFERS = 100_000
_ID = f"{OFFER_PREFIX}id"
_DISTANCE_KEY = np.uint64(attribute_key(DISTANCE))


class Rows:
    """Makes rows for one set of features. An encoded row has its keys, then its numbers, if any, as 8 bytes each."""

    def __init__(self, features: Features, catalogues: CatalogueFacts, *, numbers: bool) -> None:
        size = features.request_size
        self._request_names, self._offer_names = features.attributes[:size], features.attributes[size:]
        self._catalogues, self._numbers = catalogues, numbers
        self._distance = self._offer_names.index(DISTANCE) if DISTANCE in self._offer_names else None
        self._known: dict[tuple[str, str], bytes] = {}
        """Rows of offers, by catalogue and id."""

    def update_catalogues(self, catalogues: CatalogueFacts) -> None:
        """Replace what catalogues tell."""
        self._catalogues = catalogues
        self._known.clear()

    def request(self, told: DecisionRecord, second: int) -> tuple[bytes, list[str]]:
        """Return the row of a decision made at a second, and the attributes of request and person that it tells."""
        values = request_values(told, second, self._catalogues.time_zones.get(told.catalog, "UTC"))
        return self._row(self._request_names, values), list(values)[len(REQUEST_NAMES) :]

    def keys(
        self, request: bytes, catalog: str, offers: Sequence[str], metres: Sequence[int]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return the keys of a request, and a row of keys for each offer; `metres`: their distances, 0 if unknown."""
        own = self._own([(catalog, one) for one in offers], metres)
        return self._split([request], self._request_names)[0][0], own[0]

    def examples(self, settled: Sequence[SettledOffer]) -> Examples:
        """Return an example for each settled offer."""
        decisions, indexes, rewards, importances = zip(*settled, strict=True) if settled else ((),) * 4
        parts = (
            self._split([one.request for one in decisions], self._request_names),
            self._own(
                [(one.catalog, one.offers[index]) for one, index in zip(decisions, indexes, strict=True)],
                [one.metres[index] for one, index in zip(decisions, indexes, strict=True)],
            ),
        )
        keys, numbers = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
        return Examples(
            keys,
            numbers,
            np.array(rewards, np.float64),
            np.array(importances, np.float64),
            np.array([one.second for one in decisions], np.int64),
            np.array([one.decision_id.encode() for one in decisions], DECISION),
        )

    def _own(
        self, offers: Sequence[tuple[str, str]], metres: Sequence[int]
    ) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Return the keys and numbers of offers, each by its catalogue and id, at their distances from the person."""
        keys, numbers = self._split([self._offer(*one) for one in offers], self._offer_names)
        if self._distance is None:
            return keys, numbers
        far, own = np.array(metres, np.float64), np.empty(len(metres), np.uint64)
        far[far == 0] = math.nan
        number_keys(_DISTANCE_KEY, far, own)
        keys = keys.copy()
        keys[:, self._distance] = own
        if self._numbers:
            numbers = numbers.copy()
            numbers[:, self._distance] = far
        return keys, numbers

    def _offer(self, catalog: str, offer: str) -> bytes:
        row = self._known.get((catalog, offer))
        if row is None:
            if len(self._known) >= _OFFERS:
                self._known.clear()
            values = {OFFER_PREFIX + name: value for name, value in self._catalogues.values(catalog, offer).items()}
            row = self._known[catalog, offer] = self._row(self._offer_names, {**values, _ID: offer})
        return row

    def _row(self, names: Sequence[str], values: Mapping[str, object]) -> bytes:
        keys = np.array([_key_of(name, values.get(name)) for name in names], np.uint64).tobytes()
        if not self._numbers:
            return keys
        found = [values.get(name) for name in names]
        numbers = [value if _is_number(value) else math.nan for value in found]
        return keys + np.array(numbers, np.float64).tobytes()

    def _split(self, rows: Sequence[bytes], names: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
        """Return the keys and numbers of encoded rows."""
        size = len(names)
        table = np.frombuffer(b"".join(rows), np.uint64).reshape(len(rows), (1 + self._numbers) * size)
        keys = table[:, :size]
        return keys, table[:, size:].view(np.float64) if self._numbers else np.broadcast_to(np.nan, keys.shape)


def offer_values(offer: Offer) -> dict[str, object]:
    """Return the attributes of an offer that models know, beside its id."""
    values = scalars(offer.attributes) if offer.HasField("attributes") else {}
    return values | {"category": offer.category, "brand": offer.brand, "campaign": offer.campaign_id}


def _is_number(value: object) -> bool:
    """Return whether a value is a number for trees, as in `Features.numbers`."""
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


_key_of = lru_cache(1 << 16)(key_of)
