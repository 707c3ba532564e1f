"""Stores in Redis: person state, budgets and outbox."""
