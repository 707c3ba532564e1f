"""Geohashes: a position as coarse as its number of characters.

Source: https://en.wikipedia.org/wiki/Geohash
"""

_ALPHABET = "0123456789bcdefghjkmnpqrstuvwxyz"


def geohash(latitude: float, longitude: float, length: int) -> str:
    """The cell a position in degrees is in, of `length` characters (0 to 12): 6 is about 1.2 km by 0.6 km."""
    bits = 5 * length
    longitude_bits = (bits + 1) // 2  # the first bit is of the longitude, and they take turns
    latitude_bits = bits // 2
    x = min(int((longitude + 180.0) / 360.0 * (1 << longitude_bits)), (1 << longitude_bits) - 1)
    y = min(int((latitude + 90.0) / 180.0 * (1 << latitude_bits)), (1 << latitude_bits) - 1)
    # Binary digits read in base 4 are spread out: each has room for one of the other number beside it.
    number = int(f"{x:b}", 4) << (bits + 1) % 2 | int(f"{y:b}", 4) << bits % 2
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
