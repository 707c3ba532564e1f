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
