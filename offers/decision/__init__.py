"""Decisions: a snapshot and a query in, ranked offers out, without I/O. engine.py has the stages."""

import offers.compiled  # noqa: F401 - sets where compiled loops are cached
