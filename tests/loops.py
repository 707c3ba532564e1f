"""Small loops, for the test of how loops are compiled."""

from numba import njit

from offers.compiled import apart, inlined, inner


@inner
def doubled(number: int) -> int:
    """What a loop calls that Python seldom does."""
    return 2 * number


@inlined
def raised(number: int) -> int:
    """The same, always inlined."""
    return number + 1


@apart
def parted(number: int, text: bytes) -> tuple[int, float]:
    """Quotient and remainder by the length of a text. Raises ValueError for an empty one."""
    if len(text) == 0:
        raise ValueError
    return number // len(text), float(number % len(text))


@apart
def summed(number: int, text: bytes) -> float:
    """Calls loops of all kinds."""
    quotient, remainder = parted(doubled(raised(number)), text)
    return quotient + remainder


@njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def top(text: bytes, *, is_one: bool) -> float:
    """Called by Python, with a cache of its own."""
    return summed(is_one, text) + summed(text[0], text)
