"""Caches of methods do not keep their objects, nor what these hold open."""

import gc
import weakref
from pathlib import Path

from offers.caching import cached
from offers.catalogue.publish import publish
from offers.demo import catalogue
from offers.server.offer_values import offers_of
from offers.server.process.worker import warm_engine


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Squares:
    """Something with a method that is cached."""

    def __init__(self) -> None:
        self.asked = 0
        self.of = cached(self._of, 2)

    def _of(self, number: int) -> int:
        self.asked += 1
        return number * number


def test_results_are_kept_and_the_object_is_not() -> None:
    """So many results are kept; the object goes with its last reference, without the garbage collector."""
    gc.disable()
    try:
        one = Squares()
        assert [4, 9, 4] == [one.of(2), one.of(3), one.of(2)]
        assert 2 == one.asked
        assert [16, 4] == [one.of(4), one.of(2)]
        assert 3 == one.asked
        gone = weakref.ref(one)
        del one
        assert gone() is None
    finally:
        gc.enable()


def test_a_snapshot_that_is_not_served_any_more_is_closed_at_once(tmp_path: Path) -> None:
    """Engines and the learner's facts leave no open files behind, though nobody searches for cycles."""
    path = publish(catalogue(), tmp_path).path
    for use in (lambda: warm_engine(path), lambda: offers_of([path])):
        use()
        gc.collect()
        gc.disable()
        try:
            before = _descriptors()
            use()
            assert before == _descriptors()
        finally:
            gc.enable()
