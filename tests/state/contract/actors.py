"""Processes that use stores, for tests to start many of, and to kill."""

import sys
from collections.abc import Callable

from offers.settings import Settings
from offers.state.opening import Stores, open_stores


def count(stores: Stores, times: str) -> None:
    """Add one to three persons, so many times."""
    for _ in range(int(times)):
        stores.state.change([(one, lambda record, _: b"%d" % (int(record or 0) + 1)) for one in ("u:1", "a:1", "u:2")])


if __name__ == "__main__":
    ROLES: dict[str, Callable[..., None]] = {"count": count}
    role, settings, *rest = sys.argv[1:]
    opened = open_stores(Settings.model_validate_json(settings))
    ROLES[role](opened, *rest)
    opened.close()
