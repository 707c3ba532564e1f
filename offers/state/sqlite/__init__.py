"""Stores in SQLite: person state, budgets and the event log."""
