"""The numbers by which things are known whatever numbers a snapshot gives them: what caps are on, and names."""

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


def text_hash(text: str) -> int:
    """A signed 64-bit number for a text, as compiled loops work it out (FNV-1a of its UTF-8)."""
    hashed = 0xCBF29CE484222325
    for byte in text.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return hashed if hashed < 2**63 else hashed - 2**64
