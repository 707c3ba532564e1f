"""Faults and attacks against real servers, with what docs/guides/faults.md promises of each."""
