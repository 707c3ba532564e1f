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


def centre_of(geohash: str) -> tuple[float, float]:
    """The latitude and longitude, in degrees, of the middle of a geohash's cell; that of "" is the whole world."""
    bounds = [[-90.0, 90.0], [-180.0, 180.0]]
    bits = (_ALPHABET.index(digit) >> place & 1 for digit in geohash for place in reversed(range(5)))
    for number, bit in enumerate(bits):
        bound = bounds[1 - number % 2]  # the first bit is of the longitude, and they take turns
        bound[1 - bit] = sum(bound) / 2
    (south, north), (west, east) = bounds
    return (south + north) / 2, (west + east) / 2
