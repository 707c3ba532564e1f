"""The cell of a geohash, as loops and as plain Python have it."""

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
    """To the last bit: what the loop knows of a place is what can be worked out of the log."""
    assert centre_of(geohash(latitude, longitude, characters)) == middle_of(latitude, longitude, characters)
