"""Geohashes: positions whose precision is their number of characters.

Source: https://en.wikipedia.org/wiki/Geohash
"""

_ALPHABET = "0123456789bcdefghjkmnpqrstuvwxyz"


def geohash(latitude: float, longitude: float, length: int) -> str:
    """Return the geohash of a position in degrees, with `length` characters (0 to 12); 6 is about 1.2 km by 0.6 km."""
    bits = 5 * length
    longitude_bits = (bits + 1) // 2  # the bits alternate, beginning with the longitude
    latitude_bits = bits // 2
    x = min(int((longitude + 180.0) / 360.0 * (1 << longitude_bits)), (1 << longitude_bits) - 1)
    y = min(int((latitude + 90.0) / 180.0 * (1 << latitude_bits)), (1 << latitude_bits) - 1)
    # Reading binary digits in base 4 leaves a free bit beside each one, for a bit of the other number.
    number = int(f"{x:b}", 4) << (bits + 1) % 2 | int(f"{y:b}", 4) << bits % 2
    return "".join(_ALPHABET[number >> 5 * digit & 31] for digit in reversed(range(length)))


def centre_of(geohash: str) -> tuple[float, float]:
    """Return the latitude and longitude, in degrees, of the centre of a geohash's cell; "" is the whole world."""
    bounds = [[-90.0, 90.0], [-180.0, 180.0]]
    bits = (_ALPHABET.index(character) >> shift & 1 for character in geohash for shift in reversed(range(5)))
    for number, bit in enumerate(bits):
        bound = bounds[1 - number % 2]  # the bits alternate, beginning with the longitude
        bound[1 - bit] = sum(bound) / 2
    (south, north), (west, east) = bounds
    return (south + north) / 2, (west + east) / 2
