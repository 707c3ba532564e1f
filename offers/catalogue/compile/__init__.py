"""Compilation of a checked catalogue document into a snapshot."""
