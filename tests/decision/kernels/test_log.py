"""The records that compiled loops write for the log."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from offers.decision.kernels.log import write_geohash
from offers.model.geohash import geohash


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(0, 12))
@example(90.0, 180.0, 12)
@example(-90.0, -180.0, 12)
@example(0.0, 0.0, 1)
def test_geohashes_are_those_of_events(latitude: float, longitude: float, characters: int) -> None:
    """Decisions and events name places by the same geohashes."""
    out = np.zeros(16, np.uint8)
    end = write_geohash(out, 2, latitude, longitude, characters)
    assert geohash(latitude, longitude, characters) == out[2:end].tobytes().decode()
