"""Sunrise and sunset are, to the minute, those of published almanacs."""

from collections.abc import Iterator
from datetime import date

import pytest

from offers.catalogue.hours.sun import minute_of

FREDONIA = (36 + 57 / 60, -112 - 31 / 60)
"""Fredonia, Arizona: W112 31, N36 57, seven hours west of Greenwich."""
SUN_2023 = """
01  0743 1724  0733 1755  0701 1824  0616 1852  0536 1919  0512 1944  0514 1954  0535 1937  0601 1859  0625 1814  0654 1733  0724 1714
06  0744 1728  0728 1801  0654 1829  0609 1857  0531 1923  0511 1947  0517 1953  0539 1932  0605 1851  0630 1806  0659 1728  0729 1713
11  0743 1733  0723 1806  0647 1834  0602 1901  0526 1928  0510 1950  0520 1951  0544 1926  0609 1844  0634 1759  0704 1724  0733 1714
16  0742 1738  0718 1811  0640 1838  0555 1906  0521 1932  0510 1952  0523 1949  0548 1920  0613 1836  0639 1752  0709 1720  0736 1715
21  0740 1743  0711 1816  0632 1843  0548 1910  0518 1936  0511 1953  0527 1946  0552 1914  0617 1829  0643 1746  0715 1717  0739 1717
26  0737 1749  0705 1821  0625 1847  0542 1914  0515 1940  0512 1954  0531 1942  0556 1907  0621 1821  0648 1740  0720 1715  0742 1720
"""  # noqa: E501
"""Rise and Set for the Sun for 2023, U. S. Naval Observatory, Astronomical Applications Department: for six days of
each month, from January to December, in the standard time of the place."""


def clock(minute: int) -> str:
    """Return a minute of the day as the table writes it."""
    return f"{minute // 60:02}{minute % 60:02}"


def rows() -> Iterator[tuple[date, str, str]]:
    """Yield each day of the table with its sunrise and sunset."""
    for line in SUN_2023.split("\n")[1:-1]:
        day, *times = line.split()
        for month, (rise, sets) in enumerate(zip(times[::2], times[1::2], strict=True), 1):
            yield date(2023, month, int(day)), rise, sets


def test_the_table_of_the_naval_observatory() -> None:
    """All 144 times of six days of each month are the published ones."""
    seen = 0
    for day, rise, sets in rows():
        number = (day - date(1970, 1, 1)).days
        ours = [clock(minute_of(event, number, FREDONIA, lambda _: -7 * 3_600)) for event in ("sunrise", "sunset")]
        assert [rise, sets] == ours, day
        seen += 2
    assert seen == 144


@pytest.mark.parametrize(
    ("event", "day", "place", "hours", "published"),
    [
        # Mauna Kea, W155 29, N19 49: U. S. Naval Observatory.
        ("dawn", "2003-07-15", (19 + 49 / 60, -155 - 29 / 60), -10, "0527"),
        ("sunrise", "2003-07-15", (19 + 49 / 60, -155 - 29 / 60), -10, "0551"),
        ("sunset", "2003-07-15", (19 + 49 / 60, -155 - 29 / 60), -10, "1904"),
        ("dusk", "2003-07-15", (19 + 49 / 60, -155 - 29 / 60), -10, "1928"),
        # London at the solstices.
        ("sunrise", "2023-12-21", (51.5074, -0.1278), 0, "0804"),
        ("sunset", "2023-12-21", (51.5074, -0.1278), 0, "1553"),
        ("sunrise", "2024-06-20", (51.5074, -0.1278), 1, "0443"),
        ("sunset", "2024-06-20", (51.5074, -0.1278), 1, "2121"),
    ],
)
def test_published_times(event: str, day: str, place: tuple[float, float], hours: int, published: str) -> None:
    """Times of other places, with civil twilight."""
    number = (date.fromisoformat(day) - date(1970, 1, 1)).days
    assert published == clock(minute_of(event, number, place, lambda _: hours * 3_600))
