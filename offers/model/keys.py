"""The numbers by which the state of persons knows what caps are on, whatever numbers a snapshot gives."""

import struct
from collections.abc import Iterable
from hashlib import blake2b


def key_of(kind: str, catalog_id: str, name: str) -> int:
    """A signed 64-bit number for an offer, campaign, category, placement or contact policy of a catalogue."""
    return keys_of(kind, catalog_id, (name,))[0]


def keys_of(kind: str, catalog_id: str, names: Iterable[str]) -> tuple[int, ...]:
    """The same for many names, in their order: half a microsecond each."""
    begun = blake2b(f"{kind}\0{catalog_id}\0".encode(), digest_size=8)
    digests = bytearray()
    for name in names:
        hashed = begun.copy()
        hashed.update(name.encode())
        digests += hashed.digest()
    return struct.unpack(f"<{len(digests) // 8}q", digests)


_ALL = 2**64 - 1


def share_of(person: int, key: int) -> float:
    """A number from 0 to 1 (exclusive) that a person and a key always have, and that is evenly spread (splitmix64).

    As admit.share_of, which compiled loops use: calling that from here would cost more than the arithmetic.
    """
    mixed = (person & _ALL) ^ ((key & _ALL) * 0x9E3779B97F4A7C15 & _ALL)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & _ALL
    return ((mixed ^ (mixed >> 31)) >> 11) * 2.0**-53
