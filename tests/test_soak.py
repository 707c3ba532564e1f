"""What a soak calls growth."""

import os
from itertools import count
from pathlib import Path

from benchmarks.soak.processes import DESCRIPTORS, Usage, growth, usage_of

MB = 1 << 20


def usages(last_mb: float = 100.0, descriptors: int = 50) -> list[Usage]:
    """Return half an hour of a process: it grows to 100 MB in five minutes, then evenly to what is given."""
    made = []
    for at in range(0, 1_801, 10):
        share = max(0.0, (at - 300) / 1_500)
        own = 100 * min(1.0, at / 300) + (last_mb - 100) * share
        made.append(Usage(at, int(own * MB), 10 * MB, 50 + round((descriptors - 50) * share), 5))
    return made


def test_what_is_flat_after_the_warm_up_is_flat() -> None:
    """Growing at first is no fault; afterwards 2 % and a few descriptors are chance."""
    for given in (usages(), usages(last_mb=101.0), usages(last_mb=60.0), usages(descriptors=50 + DESCRIPTORS)):
        found = growth(given, 300)
        assert found is not None
        assert found.is_flat
        assert found.peak == max(one.own for one in given)


def test_what_grows_is_found() -> None:
    """More memory or descriptors are growth; a short peak at the end is none; nothing is said of two samples."""
    grown, leaking = growth(usages(last_mb=104.0), 300), growth(usages(descriptors=70), 300)
    assert grown is not None
    assert leaking is not None
    assert not grown.is_flat
    assert 0.02 < grown.of_memory < 0.04
    assert not leaking.is_flat
    peak = usages()
    peak[-1] = peak[-1]._replace(own=200 * MB)
    found = growth(peak, 300)
    assert found is not None
    assert found.is_flat
    assert 200 * MB == found.peak
    assert growth(usages()[-1:], 300) is None


def test_a_process_is_measured() -> None:
    """Anonymous memory, descriptors and threads are those of the process; one that has ended has none."""
    before = usage_of(os.getpid(), 0)
    assert before is not None
    block = bytearray(range(256)) * (64 * MB // 256)
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    after = usage_of(os.getpid(), 1)
    for one in files:
        os.close(one)
    assert after is not None
    assert 60 * MB < after.own - before.own < 80 * MB
    assert 5 == after.descriptors - before.descriptors
    assert len(block) == 64 * MB
    assert usage_of(next(pid for pid in count(4_000_000) if not Path(f"/proc/{pid}").exists()), 0) is None
