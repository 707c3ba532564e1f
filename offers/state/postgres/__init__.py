"""Stores in PostgreSQL: the event log."""
