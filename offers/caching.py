"""Caches of the results of methods, which are freed with their object."""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast
from weakref import WeakMethod

Asked = ParamSpec("Asked")
Found = TypeVar("Found")


def cached(method: Callable[Asked, Found], most: int | None = None) -> Callable[Asked, Found]:
    """Return a bound method that keeps at most so many results (None: all), to be kept by its own object.

    It does not keep the object alive. `lru_cache` over a bound method would, and the memory and open files of a
    snapshot would stay until the garbage collector finds the cycle: it seldom searches for old ones.
    """
    bound = WeakMethod(method)

    def ask(*args: Asked.args, **kwargs: Asked.kwargs) -> Found:
        alive = bound()
        assert alive is not None  # noqa: S101 - for the type checker: the caller holds the object
        return alive(*args, **kwargs)

    return cast("Callable[Asked, Found]", lru_cache(most)(ask))
