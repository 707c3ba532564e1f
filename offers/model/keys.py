"""The numbers by which the state of persons knows what caps are on, whatever numbers a snapshot gives."""

import struct
from hashlib import blake2b

_NUMBER = struct.Struct("<q")


def key_of(kind: str, catalog_id: str, name: str) -> int:
    """A signed 64-bit number for an offer, campaign, category, placement or contact policy of a catalogue."""
    (number,) = _NUMBER.unpack(blake2b(f"{kind}\0{catalog_id}\0{name}".encode(), digest_size=8).digest())
    return int(number)
