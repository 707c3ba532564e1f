"""Makes time.sleep work under libfaketime, for every Python process that `make tomorrow` starts.

Python sleeps until an instant of the monotonic clock. libfaketime shifts that instant although the clock itself is left
alone, and the call fails with EINVAL (seen with 0.9.10). A timeout of select is a duration, which is not shifted.
"""

import os
import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    """Wait for some seconds. Raises ValueError for a negative number of them."""
    timeout = float(seconds)
    if timeout < 0:
        message = "sleep length must be non-negative"
        raise ValueError(message)
    select.select([], [], [], timeout)


if {"FAKETIME", "FAKETIME_TIMESTAMP_FILE"} & os.environ.keys():
    time.sleep = sleep
