"""Makes rows of decisions and of the offers they showed: keys, and numbers where they are asked for."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from offers.learning.features import OFFER_PREFIX, Examples, Features
from offers.learning.values import REQUEST_NAMES, Offers, request_values, scalars
from offers.model.hashing import key_of
from offers.v1.offer_pb2 import Offer
from offers.v1.state_pb2 import DecisionRecord

_OFFERS = 100_000
_ID = f"{OFFER_PREFIX}id"


class Rows:
    """Rows of one set of features. A row is encoded: its keys, then its numbers, if there are any, as 8 bytes each."""

    def __init__(self, features: Features, offers: Offers, *, numbers: bool) -> None:
        size = features.request_size
        self._request_names, self._offer_names = features.attributes[:size], features.attributes[size:]
        self._offers, self._numbers = offers, numbers
        self._known: dict[tuple[str, str], bytes] = {}
        """Rows of offers, by catalogue and id."""

    def know(self, offers: Offers) -> None:
        """Take up what catalogues now tell."""
        self._offers = offers
        self._known.clear()

    def request(self, told: DecisionRecord, second: int) -> tuple[bytes, list[str]]:
        """The row of a decision that was made at a second, and which attributes of request and person it told of."""
        values = request_values(told, second, self._offers.time_zones.get(told.catalog, "UTC"))
        return self._row(self._request_names, values), list(values)[len(REQUEST_NAMES) :]

    def keys(
        self, request: bytes, catalog: str, offers: Sequence[str]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The keys of a request, and of offers of a catalogue, a row for each."""
        encoded = [self._offer(catalog, one) for one in offers]
        return self._split([request], self._request_names)[0][0], self._split(encoded, self._offer_names)[0]

    def examples(
        self,
        requests: Sequence[bytes],
        offers: Sequence[tuple[str, str]],
        reward: NDArray[np.float64],
        importance: NDArray[np.float64],
        time: NDArray[np.int64],
    ) -> Examples:
        """Examples of requests, each with an offer by its catalogue and id; the rest is as in Examples."""
        parts = (
            self._split(requests, self._request_names),
            self._split([self._offer(*one) for one in offers], self._offer_names),
        )
        keys, numbers = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
        return Examples(keys, numbers, reward, importance, time)

    def _offer(self, catalog: str, offer: str) -> bytes:
        row = self._known.get((catalog, offer))
        if row is None:
            if len(self._known) >= _OFFERS:
                self._known.clear()
            values = {OFFER_PREFIX + name: value for name, value in self._offers.values(catalog, offer).items()}
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
        """The keys and numbers of some rows."""
        size = len(names)
        table = np.frombuffer(b"".join(rows), np.uint64).reshape(len(rows), (1 + self._numbers) * size)
        keys = table[:, :size]
        return keys, table[:, size:].view(np.float64) if self._numbers else np.broadcast_to(np.nan, keys.shape)


def offer_values(offer: Offer) -> dict[str, object]:
    """What a model is told of an offer beside its id."""
    values = scalars(offer.attributes) if offer.HasField("attributes") else {}
    return values | {"category": offer.category, "brand": offer.brand, "campaign": offer.campaign_id}


def _is_number(value: object) -> bool:
    """As of `Features.numbers`, which trees are asked with."""
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


_key_of = lru_cache(1 << 16)(key_of)
