"""Persons' state, events and budgets: how events change them, and the stores that hold them."""
