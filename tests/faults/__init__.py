"""Faults and attacks against real servers, with what docs/guides/operations.md promises of each."""
