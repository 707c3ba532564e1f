"""Geohash cells are the same in compiled loops and in plain Python."""

from hypothesis import example, given
from hypothesis import strategies as st

from offers.decision.kernels.places.cell import middle_of
from offers.model.geohash import centre_of, geohash


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(1, 12))
@example(90.0, 180.0, 12)
@example(90.0, 180.0, 1)
@example(-90.0, -180.0, 12)
@example(-90.0, -180.0, 1)
@example(0.0, 0.0, 6)
@example(-1e-300, -1e-300, 6)
def test_the_middle_of_a_cell_is_that_of_its_geohash(latitude: float, longitude: float, characters: int) -> None:
    """The middle of a cell is that of its geohash, to the last bit: the learner computes the same from the log."""
    assert centre_of(geohash(latitude, longitude, characters)) == middle_of(latitude, longitude, characters)
