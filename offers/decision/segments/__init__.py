"""Segment membership: CEL evaluation and its compiled form."""
