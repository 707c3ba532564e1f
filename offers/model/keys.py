"""64-bit keys of named things: stable across snapshots, whose own numbering changes with every publication."""

import struct
from collections.abc import Iterable
from hashlib import blake2b


def key_of(kind: str, catalog_id: str, name: str) -> int:
    """Return the signed 64-bit key of an offer, campaign, category, placement or contact policy of a catalogue."""
    return keys_of(kind, catalog_id, (name,))[0]


def keys_of(kind: str, catalog_id: str, names: Iterable[str]) -> tuple[int, ...]:
    """Return the keys of many names, in their order. Costs half a microsecond each."""
    begun = blake2b(f"{kind}\0{catalog_id}\0".encode(), digest_size=8)
    digests = bytearray()
    for name in names:
        hashed = begun.copy()
        hashed.update(name.encode())
        digests += hashed.digest()
    return struct.unpack(f"<{len(digests) // 8}q", digests)
